"""A claim and its comparisons as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...catalogue.cell import method_label, metric_named
from .methods import knobs
from .numbers import printed


def verdict(entry: Mapping[str, Any]) -> str:
    """✓ held, ✗ broken (under assumptions), ? not decidable, leans held; on stand-ins."""
    text = label(entry["verdict"])
    if entry["verdict"] == "undecided" and entry["leaning"]:
        tied = entry["leaning"] == "tied"
        text += ", tied" if tied else f", leans {entry['leaning']}"
    elif entry["verdict"] == "broken" and entry["assumed"]:
        text += " (under assumptions)"
    return text + (", on stand-ins" if entry["stand_in"] else "")


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
