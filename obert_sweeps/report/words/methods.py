"""What a method kept and was given, over its tasks, as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...amounts import counted, duration
from ...catalogue.cell import method_label
from .numbers import share


def name(row: Mapping[str, Any]) -> str:
    """The method by its name in the document, with its sparsity."""
    return f"{method_label(row['method'])} {row['variant'] or ''}".strip()


def mean_recovery(row: Mapping[str, Any]) -> str:
    """Ours (the document's), each with how many tasks it is a mean over where not over all."""

    def one(mean: float | None, count: int) -> str:
        some = f" on {count} of {len(row['tasks'])}" if 0 < count < len(row["tasks"]) else ""
        return share(mean) + some

    return f"{one(*row['recovery'])} ({one(*row['published_recovery'])})"


def effort(entry: Mapping[str, Any], name: str) -> str:
    """One quantity of what a cell or a method was given, as a table shows it."""
    value = entry["effort"][name]
    if value is None:
        return "–"
    if name.endswith("seconds"):
        return duration(value)
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


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
