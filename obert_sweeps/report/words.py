"""Numbers and verdicts as people read them; shared by markdown, HTML and the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..amounts import counted, duration
from ..catalogue.cell import method_label, metric_named

MARKS = {  # verdict -> (sign readable without colour, kind of colour)
    "reproduced": ("✓", "good"),
    "better": ("▲", "good"),
    "worse": ("▼", "bad"),
    "undecided": ("?", "open"),
    "not_converged": ("✗", "bad"),
    "unpublished": ("·", "none"),
    "not_run": ("–", "none"),
    "blocked": ("⊘", "none"),
    "failed": ("✗", "bad"),
    "stand_in": ("≈", "open"),
    "held": ("✓", "good"),
    "broken": ("✗", "bad"),
}


def verdict_label(token: str) -> str:
    """A cell's verdict: reproduced, not converged, stand-in."""
    return "stand-in" if token == "stand_in" else token.replace("_", " ")


def claim_label(token: str) -> str:
    """A claim's verdict, or that of one of its comparisons: held, broken, not decidable."""
    return "not decidable" if token == "undecided" else token


def printed(value: float | None, metric: str, table: int) -> str:
    """A published value with the digits the document prints; table 5 has mostly one decimal."""
    if value is None:
        return "NA"
    if unit := metric_named(metric).unit:
        return f"{value:g}{unit}"
    return f"{value:.1f}" if table == 5 and round(value, 1) == value else f"{value:.2f}"


def share(value: float | None) -> str:
    """A share 0..1 in per cent."""
    return "–" if value is None else f"{value * 100:.1f}%"


def recovery(entry: Mapping[str, Any]) -> str:
    """Ours (the document's); of a cell of one's own with what it is a share of: 83.8% of 97.00."""
    if entry["recovery"] is None and entry["published_recovery"] is None:
        return ""
    if entry["table"] == 0:
        return f"{share(entry['recovery'])} of {entry['dense']:.2f}"
    return f"{share(entry['recovery'])} ({share(entry['published_recovery'])})"


def mean_recovery(row: Mapping[str, Any]) -> str:
    """Ours (the document's), each with how many tasks it is a mean over where not over all."""

    def one(mean: float | None, count: int) -> str:
        some = f" on {count} of {len(row['tasks'])}" if 0 < count < len(row["tasks"]) else ""
        return share(mean) + some

    return f"{one(*row['recovery'])} ({one(*row['published_recovery'])})"


def method(row: Mapping[str, Any]) -> str:
    """The method by its name in the document, with its sparsity."""
    return f"{method_label(row['method'])} {row['variant'] or ''}".strip()


def rank(entry: Mapping[str, Any]) -> str:
    """Ours of how many (the document's of how many); 1=/6 where others have the same value."""

    def one(whose: str) -> str:
        rank, of, tied = (entry[f"{whose}{part}"] for part in ("rank", "rank_of", "rank_tied"))
        return "–" if rank is None else f"{rank}{'=' if tied else ''}/{of}"

    if entry["rank"] is None and entry["published_rank"] is None:
        return ""
    return f"{one('')} ({one('published_')})"


def measured(entry: Mapping[str, Any], metrics: Iterable[str] | None = None) -> str:
    """Means, with the deviation over seeds where there is one: 88.51±0.12 / 81.40±0.20."""
    names = [m for m in (metrics or _shown(entry)) if m in entry["measured"]]
    text = " / ".join(with_deviation(entry, name) + metric_named(name).unit for name in names)
    if entry["seeds"] and entry["diverged"] == entry["seeds"]:
        return f"does not converge ({text})" if text else "does not converge"
    return text or "–"


def with_deviation(entry: Mapping[str, Any], metric: str) -> str:
    """A mean, with the deviation over seeds where there is one: 88.51±0.12."""
    sd = entry["sd"].get(metric)
    return f"{entry['measured'][metric]:.2f}" + (f"±{sd:.2f}" if sd else "")


def published(entry: Mapping[str, Any], metrics: Iterable[str] | None = None) -> str:
    """The document's values, as it prints them: 88.54 / 81.41."""
    values = entry["published"]
    names = [m for m in (metrics or values) if m in values]
    return " / ".join(printed(values[m], m, entry["table"]) for m in names) or "–"


def verdict(entry: Mapping[str, Any]) -> str:
    """The cell's verdict with its sign."""
    return f"{MARKS[entry['verdict']][0]} {entry.get('label', entry['verdict'])}"


def band(judgement: Mapping[str, Any]) -> str:
    """+0.21 ± 0.40, 5 seeds to decide."""
    text = f"{judgement['difference']:+.2f}"
    if judgement["half_width"] is not None:
        text += f" ± {judgement['half_width']:.2f}"
    if judgement["seeds_to_decide"]:
        text += f", {counted(judgement['seeds_to_decide'], 'seed')} to decide"
    return text


def interval(entry: Mapping[str, Any]) -> str:
    """Confidence intervals of the means: F1 88.40 to 88.60."""
    return ", ".join(
        f"{metric_named(name).label} {ends[0]:.2f} to {ends[1]:.2f}"
        for name, ends in entry["interval"].items()
        if ends is not None
    )


def bands(entry: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    """`band` of each judged one of the metrics, by name where there are several."""
    judged = [(name, entry["by_metric"][name]) for name in metrics if name in entry["by_metric"]]
    if len(metrics) == 1:
        return [band(judgement) for _, judgement in judged]
    return [f"{metric_named(name).label} {band(judgement)}" for name, judgement in judged]


def widths(entry: Mapping[str, Any]) -> str:
    """Differences with the band's half-width, and the seeds it would take, by metric."""
    return "; ".join(
        f"{metric_named(name).label} {band(judgement)}"
        for name, judgement in entry["by_metric"].items()
    )


def effort(entry: Mapping[str, Any], name: str) -> str:
    """One quantity of what a cell or a method was given, as a table shows it."""
    value = entry["effort"][name]
    if value is None:
        return "–"
    if name.endswith("seconds"):
        return duration(value)
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


RATES = ("rows/s", "tokens/s", "padding", "TFLOP/s", "MFU")


def rates(found: Mapping[str, float]) -> list[str]:
    """Rates of training, in the order of `RATES`; a dash where one was not measured."""
    shown = (
        ("samples_per_second", "{:,.0f}"),
        ("tokens_per_second", "{:,.0f}"),
        ("padding_share", "{:.0%}"),
        ("tflops", "{:.3g}"),
        ("mfu", "{:.1%}"),
    )
    return [form.format(found[name]) if name in found else "-" for name, form in shown]


def took(cost: Mapping[str, Any]) -> str:
    """3 min of stages, 2 min of CPU, 0 s of GPU."""
    return (
        f"{duration(cost['seconds'])} of stages, {duration(cost['cpu_seconds'])} of CPU, "
        f"{duration(cost['gpu_seconds'])} of GPU"
    )


def spent(cost: Mapping[str, Any]) -> str:
    """What all stages took, beside what the plan said of those that are done."""
    planned, text = cost["planned_seconds_of_done"], took(cost)
    if planned:
        text += f"; {duration(planned)} were planned for them"
        text += f" ({cost['seconds'] / planned:.2g} times as long)" if cost["seconds"] else ""
    return f"{text}; {duration(cost['planned_seconds'])} planned for all"


def comparison(item: Mapping[str, Any]) -> str:
    """One comparison of a claim, in one line."""
    if "better" not in item:
        return audited(item)
    head = f"{item['better']} against {item['worse']}, {metric_named(item['metric']).label}: "
    if item["measured"] is None:
        body = item["reason"]
    else:
        body = f"{item['measured'][0]:.2f} and {item['measured'][1]:.2f}"
        half = item["half_width"]
        body += f", {item['above_line']:+.2f}"
        body += "" if half is None else f" ±{half:.2f}{' paired' if item['paired'] else ''}"
        body += f"; {item['reason']}"
    theirs = " and ".join(
        printed(value, item["metric"], int(item["better"][1])) for value in item["published"]
    )
    return f"{head}{body} (document: {theirs}) [{claim_label(item['verdict'])}]"


def claim(entry: Mapping[str, Any]) -> str:
    """✓ held, ✗ broken (under assumptions), ? not decidable, leans held; on stand-ins."""
    text = claim_label(entry["verdict"])
    if entry["verdict"] == "undecided" and entry["leaning"]:
        tied = entry["leaning"] == "tied"
        text += ", tied" if tied else f", leans {entry['leaning']}"
    elif entry["verdict"] == "broken" and entry["assumed"]:
        text += " (under assumptions)"
    return text + (", on stand-ins" if entry["stand_in"] else "")


def line(entry: Mapping[str, Any]) -> str:
    """What a claim's comparisons must be above nought in, as the head of a column."""
    if entry["threshold"] != 1.0:
        return f"Above {100 * entry['threshold']:g} % of it"
    if entry["tolerance"]:
        return f"Above it less {entry['tolerance']:g}"
    return "Difference"


def audited(item: Mapping[str, Any]) -> str:
    """What a claim about set-ups stands on: a method's epochs, distillation or knobs."""
    name = method_label(item["method"])
    if "epochs" in item:
        ends = sorted({min(item["epochs"]), max(item["epochs"])})
        epochs = " to ".join(f"{e:g}" for e in ends)
        return f"{name}: {epochs} epochs"
    if "distilled" in item:
        return f"{name}: " + (", ".join(item["distilled"]) or "not distilled")
    return f"{name} on {', '.join(item['tasks'])}: {knobs(item)}"


def knob_count(group: Mapping[str, Any]) -> int:
    """Per-task knobs that a method's authors set, those that no recipe here takes included."""
    return len(group["knobs"]) + len(group.get("not_taken", []))


def knobs(group: Mapping[str, Any]) -> str:
    """The knobs that a method sets per task, counted and named; early stopping apart."""
    names = [knob["knob"] for knob in group["knobs"]]
    names += [f"{knob['knob']} (not taken here)" for knob in group.get("not_taken", [])]
    text = "no per-task knob"
    if names:
        text = f"{counted(len(names), 'per-task knob')} ({', '.join(names)})"
    stopping = [knob["knob"] for knob in group["early_stopping"]]
    text += f" (early stopping: {', '.join(stopping)})" if stopping else ""
    best = group.get("keeps_best") or []
    where = "all tasks" if len(best) == len(group["tasks"]) else ", ".join(best)
    if not best:
        return text
    return f"{text}; keeps the best epoch on the development set, which is also scored ({where})"


def _shown(entry: Mapping[str, Any]) -> list[str]:
    """Published metrics first, in the document's order; else all that was measured."""
    return list(entry["published"]) or list(entry["measured"])


def tally(entries: Iterable[Mapping[str, Any]]) -> str:
    """12 reproduced, 3 undecided, …"""
    counts = Counter(entry["verdict"] for entry in entries)
    return ", ".join(f"{n} {verdict_label(token)}" for token, n in counts.most_common())
