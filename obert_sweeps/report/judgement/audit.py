"""The fairness audit: which knobs a method sets per task, read off the resolved recipes.

A knob is one decision. Times are counted as shares of the training they belong to and rates as
shares of its highest, so that a schedule twice as long, or with twice the rate, differs in one
knob and not in every number that follows from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...catalogue.cell import TUNING_FREE
from ..facts.dotted import dotted
from ..facts.views import CellView

EARLY_STOPPING = frozenset({"training.keep", "training.patience", "training.evaluate_every"})
"""Named apart: the document allows early stopping to methods it calls free of tuning."""

GROUP = ("table", "method", "model", "variant")  # what tells the audit's groups apart

_ABSENT = "(absent)"
_DIGITS = 4  # of a share: the authors' steps are rounded when written as epochs


def audit(plans: Iterable[CellView]) -> dict[str, Any]:
    """Compare, for each method of each table, the recipes of its own stages over tasks.

    `knobs` are those that differ; `keeps_best` are the tasks whose result is the best epoch on the
    development set, early stopping of a kind even where all tasks have it; `not_taken` are knobs
    that the authors set by task and no recipe here does (seeds are the sweep's, the level the
    cell's). `ok` is False when a method called tuning-free has a knob; `violations` says which.
    Blocked cells have no recipe and are left out.
    """
    groups: dict[tuple[Any, ...], dict[str, CellView]] = {}
    for plan in plans:
        cell = plan.cell
        if plan.knobs:
            key = tuple(getattr(cell, name) for name in GROUP)
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


def _group(key: tuple[Any, ...], by_task: Mapping[str, CellView]) -> dict[str, Any]:
    named = dict(zip(GROUP, key, strict=True))
    recipes = {task: plan.knobs for task, plan in by_task.items()}
    found = differing({task: settings(recipe) for task, recipe in recipes.items()})
    distilled = [t for t, r in recipes.items() if (r.get("training") or {}).get("distill")]
    return {
        **named,
        "tasks": list(by_task),
        "tuning_free": named["method"] in TUNING_FREE,
        "knobs": [knob for knob in found if _bare(knob["knob"]) not in EARLY_STOPPING],
        "early_stopping": [knob for knob in found if _bare(knob["knob"]) in EARLY_STOPPING],
        "keeps_best": [t for t, r in recipes.items() if _keeps_best(r)],
        "not_taken": differing({t: dict(r.get("not_taken") or {}) for t, r in recipes.items()}),
        "distilled": distilled,
    }


def _keeps_best(recipe: Mapping[str, Any]) -> bool:
    return (recipe.get("training") or {}).get("keep") == "best"


def _bare(knob: str) -> str:
    return knob.rpartition(": ")[2]


def settings(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """What a chain decides, by dotted key; for stages before the last, after the stage's name."""
    found = _settings(knobs)
    for role, recipe in (knobs.get("earlier") or {}).items():
        found |= {f"{role}: {name}": value for name, value in _settings(recipe).items()}
    return found


def _settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    parts = {part: recipe[part] for part in ("method", "sparsity") if recipe.get(part) is not None}
    training = dict(recipe.get("training") or {})
    epochs = training.get("epochs") or 1.0
    pieces = training.pop("learning_rate", None) or []
    peak = max((piece.get(k) or 0.0 for piece in pieces for k in ("initial", "final")), default=0.0)
    pruning = training.pop("pruning", None)
    if pruning:
        times = ("start", "end", "every", "until")
        parts["pruning"] = {k: _share(v, epochs) if k in times else v for k, v in pruning.items()}
    lines = [
        {k: _share(v, epochs if k in ("until", "every") else peak) for k, v in piece.items()}
        for piece in pieces
    ]
    training["learning_rate"] = {"peak": peak, "line": lines} if pieces else []
    return dotted({"training": training, **parts})


def _share(value: float | None, whole: float) -> float | None:
    return None if value is None else float(f"{value / (whole or 1.0):.{_DIGITS}g}")


def differing(found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The knobs that are not the same for all tasks: {"knob": dotted key, "values": by task}.

    The same values in several stages of the chains, rounds for instance, are one knob.
    """
    differ: dict[str, dict[str, Any]] = {}
    for name in sorted(
        {name for values in found.values() for name in values}, key=lambda n: (": " in n, n)
    ):
        values = {task: knobs.get(name, _ABSENT) for task, knobs in found.items()}
        seen = any(_bare(n) == _bare(name) and v == values for n, v in differ.items())
        if len({repr(value) for value in values.values()}) > 1 and not seen:
            differ[name] = values
    return [{"knob": name, "values": values} for name, values in differ.items()]
