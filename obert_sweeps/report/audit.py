"""The fairness audit: which knobs a method sets per task, read off the resolved recipes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..catalogue.cell import TUNING_FREE
from .source import CellPlan

PARTS = ("training", "method", "sparsity")
EARLY_STOPPING = frozenset({"training.keep", "training.patience", "training.evaluate_every"})
"""Named apart: the document allows early stopping to methods it calls free of tuning."""

_ABSENT = "(absent)"


def audit(plans: Iterable[CellPlan]) -> dict[str, Any]:
    """Compare, for each method of each table, the last stages' recipes over tasks.

    `ok` is False when a method called tuning-free has a knob that differs by task; `violations`
    says which. Blocked cells have no recipe and are left out.
    """
    groups: dict[tuple[Any, ...], dict[str, CellPlan]] = {}
    for plan in plans:
        cell = plan.cell
        if plan.knobs:
            key = (cell.table, cell.method, cell.model, cell.variant)
            groups.setdefault(key, {})[cell.task] = plan
    methods = [_group(key, by_task) for key, by_task in sorted(groups.items(), key=_order)]
    violations = [
        {"table": g["table"], "method": g["method"], "knob": knob["knob"], "values": knob["values"]}
        for g in methods
        if g["tuning_free"]
        for knob in g["knobs"]
    ]
    return {"methods": methods, "violations": violations, "ok": not violations}


def _order(item: tuple[tuple[Any, ...], Any]) -> tuple[Any, ...]:
    table, method, model, variant = item[0]
    return (table, method, model, variant or "")


def _group(key: tuple[Any, ...], by_task: Mapping[str, CellPlan]) -> dict[str, Any]:
    table, method, model, variant = key
    recipes = {task: plan.knobs for task, plan in by_task.items()}
    knobs = differing(recipes)
    distilled = [t for t, r in recipes.items() if (r.get("training") or {}).get("distill")]
    return {
        "table": table,
        "method": method,
        "model": model,
        "variant": variant,
        "tasks": list(by_task),
        "tuning_free": method in TUNING_FREE,
        "knobs": [knob for knob in knobs if knob["knob"] not in EARLY_STOPPING],
        "early_stopping": [knob for knob in knobs if knob["knob"] in EARLY_STOPPING],
        "distilled": distilled,
    }


def differing(recipes: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The knobs that are not the same in all recipes: {"knob": dotted key, "values": by task}."""
    flat = {
        task: flatten({part: recipe[part] for part in PARTS if recipe.get(part) is not None})
        for task, recipe in recipes.items()
    }
    names = dict.fromkeys(name for values in flat.values() for name in values)
    found = []
    for name in sorted(names):
        values = {task: knobs.get(name, _ABSENT) for task, knobs in flat.items()}
        if len({repr(value) for value in values.values()}) > 1:
            found.append({"knob": name, "values": values})
    return found


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested plain data as dotted keys; list items by index, empty containers as they are."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, part in items:
        flat |= flatten(part, f"{prefix}.{name}" if prefix else str(name))
    return flat or {prefix: value}
