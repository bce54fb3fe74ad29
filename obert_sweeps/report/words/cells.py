"""A cell of the report as people read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...amounts import counted
from ...catalogue.cell import metric_named
from .numbers import printed, share, with_deviation
from .verdicts import SIGNS


def measured(entry: Mapping[str, Any], metrics: Iterable[str] | None = None) -> str:
    """Means, with deviation over seeds and their number: 88.51±0.12 / 81.40±0.20, n=3.

    Without `metrics` the published ones, in the document's order; of a cell of one's own all.
    """
    shown = metrics or entry["published"] or entry["measured"]
    names = [m for m in shown if m in entry["measured"]]
    text = " / ".join(with_deviation(entry, name) + metric_named(name).unit for name in names)
    if entry["seeds"] and entry["diverged"] == entry["seeds"]:
        return f"does not converge ({text})" if text else "does not converge"
    count = len(entry["seeds"]) - len(entry["diverged"])
    return text + (f", n={count}" if text and count > 1 else "") or "–"


def published(entry: Mapping[str, Any], metrics: Iterable[str] | None = None) -> str:
    """The document's values, as it prints them: 88.54 / 81.41."""
    values = entry["published"]
    names = [m for m in (metrics or values) if m in values]
    return " / ".join(printed(values[m], m, entry["table"]) for m in names) or "–"


def recovery(entry: Mapping[str, Any]) -> str:
    """Ours (the document's); of a cell of one's own with what it is a share of: 83.8% of 97.00."""
    if entry["recovery"] is None and entry["published_recovery"] is None:
        return ""
    if entry["table"] == 0:
        return f"{share(entry['recovery'])} of {entry['dense']:.2f}"
    return f"{share(entry['recovery'])} ({share(entry['published_recovery'])})"


def rank(entry: Mapping[str, Any]) -> str:
    """Ours of how many (the document's of how many); 1=/6 where others have the same value."""

    def one(whose: str) -> str:
        rank, of, tied = (entry[f"{whose}{part}"] for part in ("rank", "rank_of", "rank_tied"))
        return "–" if rank is None else f"{rank}{'=' if tied else ''}/{of}"

    if entry["rank"] is None and entry["published_rank"] is None:
        return ""
    return f"{one('')} ({one('published_')})"


def verdict(entry: Mapping[str, Any]) -> str:
    """The cell's verdict with its sign."""
    return f"{SIGNS[entry['verdict']][0]} {entry['label']}"


def interval(entry: Mapping[str, Any]) -> str:
    """Confidence intervals of the means: F1 88.40 to 88.60."""
    return ", ".join(
        f"{metric_named(name).label} {ends[0]:.2f} to {ends[1]:.2f}"
        for name, ends in entry["interval"].items()
        if ends is not None
    )


def differences(entry: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    """`difference` of each judged one of the metrics, by name where there are several."""
    judged = [(name, entry["by_metric"][name]) for name in metrics if name in entry["by_metric"]]
    if len(metrics) == 1:
        return [difference(judgement) for _, judgement in judged]
    return [f"{metric_named(name).label} {difference(judgement)}" for name, judgement in judged]


def all_differences(entry: Mapping[str, Any]) -> str:
    """Each judged metric's difference, by name."""
    return "; ".join(
        f"{metric_named(name).label} {difference(judgement)}"
        for name, judgement in entry["by_metric"].items()
    )


def difference(judgement: Mapping[str, Any]) -> str:
    """Measured - published ± half of the interval: +0.21 ± 0.40, 5 seeds to decide."""
    text = f"{judgement['difference']:+.2f}"
    if judgement["half_width"] is not None:
        text += f" ± {judgement['half_width']:.2f}"
    if judgement["seeds_to_decide"]:
        text += f", {counted(judgement['seeds_to_decide'], 'seed')} to decide"
    return text
