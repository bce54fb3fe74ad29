"""A claim and its comparisons as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...catalogue.cell import method_label, metric_named
from .methods import knobs
from .numbers import printed


def verdict(entry: Mapping[str, Any]) -> str:
    """held, broken (under assumptions), not decidable, leans held; by last epochs; on stand-ins."""
    text = _with_leaning(entry)
    if entry["verdict"] == "broken" and entry["assumed"]:
        text += " (under assumptions)"
    if (last := entry["last_epoch"]) is not None:
        text += f"; by the last epochs {_with_leaning(last)}"
    return text + (", on stand-ins" if entry["stand_in"] else "")


def _with_leaning(decided: Mapping[str, Any]) -> str:
    """Where it is not decidable, also where the numbers point: leans held, tied, 9 of 11 ahead."""
    text, leaning = label(decided["verdict"]), decided["leaning"]
    if decided["verdict"] != "undecided" or not leaning:
        return text
    if leaning == "mixed":
        ahead = [item["leaning"] for item in decided["evidence"]].count("held")
        return f"{text}, {ahead} of {len(decided['evidence'])} ahead"
    return f"{text}, tied" if leaning == "tied" else f"{text}, leans {leaning}"


def label(token: str) -> str:
    """A claim's verdict, or that of one of its comparisons: held, broken, not decidable."""
    return "not decidable" if token == "undecided" else token


def line(entry: Mapping[str, Any]) -> str:
    """What a claim's comparisons must be above nought in, as the head of a column."""
    if entry["threshold"] != 1.0:
        return f"Above {100 * entry['threshold']:g} % of it"
    if entry["tolerance"]:
        return f"Above it less {entry['tolerance']:g}"
    return "Difference"


def comparison(item: Mapping[str, Any]) -> str:
    """One comparison of a claim, in one line."""
    if "better" not in item:
        return _set_up(item)
    head = f"{item['better']} against {item['worse']}, {metric_named(item['metric']).label}: "
    if item["measured"] is None:
        body = item["reason"]
    else:
        body = f"{item['measured'][0]:.2f} and {item['measured'][1]:.2f}"
        half = item["half_width"]
        body += f", {item['above_line']:+.2f}"
        body += "" if half is None else f" ±{half:.2f}{' paired' if item['paired'] else ''}"
        counts = item["seeds"]  # of either side
        body += f", {counts[0]} and {counts[1]} seeds" if max(counts) > 1 else ""
        body += f"; {item['reason']}"
    theirs = " and ".join(
        printed(value, item["metric"], int(item["better"][1])) for value in item["published"]
    )
    return f"{head}{body} (document: {theirs}) [{label(item['verdict'])}]"


def _set_up(item: Mapping[str, Any]) -> str:
    """What a claim about set-ups stands on: a method's epochs, distillation or knobs."""
    name = method_label(item["method"])
    if "epochs" in item:
        ends = sorted({min(item["epochs"]), max(item["epochs"])})
        epochs = " to ".join(f"{e:g}" for e in ends)
        return f"{name}: {epochs} epochs"
    if "distilled" in item:
        return f"{name}: " + (", ".join(item["distilled"]) or "not distilled")
    return f"{name} on {', '.join(item['tasks'])}: {knobs(item)}"
