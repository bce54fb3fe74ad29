"""What a cell's method was given beyond its row's dense model: training, gradients, time.

The stages that count are those the cell needs and its dense model does not; training on another
task than the cell's (masked-language modelling) counts apart, as upstream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...plan.cost import fisher_rows
from ...schema import Stage
from .lineage import own_stages
from .means import mean_of_all
from .views import CellView, PlanView, StoreView

QUANTITIES = (
    "epochs",
    "upstream_epochs",
    "examples",
    "fisher_gradients",
    "planned_seconds",
    "seconds",
    "cpu_seconds",
    "gpu_seconds",
)


def effort(cell: CellView, plan: PlanView, store: StoreView) -> dict[str, float | None]:
    """Each quantity, a mean over seeds; None where a stage that it needs is not finished.

    `epochs` and `fisher_gradients` are those of the recipes; `examples` are optimiser steps taken
    times batch size, on the cell's task and upstream; seconds are summed over stages, not elapsed.
    """
    of_seeds = [
        _of_stages(own_stages(cell, final, plan), cell.cell.task, store)
        for final in cell.finals.values()
    ]
    return {name: mean_of_all(seed[name] for seed in of_seeds) for name in QUANTITIES}


def _of_stages(own: list[Stage], task: str, store: StoreView) -> dict[str, float | None]:
    trained = [(stage, stage.recipe["training"]) for stage in own if "training" in stage.recipe]
    upstream = [s.tags.get("task", task) != task for s, _ in trained]
    epochs = [float(training["epochs"]) for _, training in trained]
    results = {stage.id: store.result(stage.id) for stage in own}
    spent = [(result or {}).get("cost") or {} for result in results.values()]
    return {
        "epochs": sum(e for e, up in zip(epochs, upstream, strict=True) if not up),
        "upstream_epochs": sum(e for e, up in zip(epochs, upstream, strict=True) if up),
        "examples": _sum(_examples(training, results[s.id]) for s, training in trained),
        "fisher_gradients": float(sum(fisher_gradients(stage.recipe) for stage, _ in trained)),
        "planned_seconds": sum(float(stage.cost.get("seconds", 0.0)) for stage in own),
        **{n: _sum(c.get(n) for c in spent) for n in ("seconds", "cpu_seconds", "gpu_seconds")},
    }


def fisher_gradients(recipe: Mapping[str, Any]) -> int:
    """Mini-batch gradients that the recipe's inverse-Fisher estimates are made of."""
    rows = fisher_rows(dict(recipe))
    return rows // int(recipe["method"]["grad_batch_size"]) if rows else 0


def _examples(training: Mapping[str, Any], result: Mapping[str, Any] | None) -> float | None:
    if result is None or result.get("steps") is None:
        return None
    return float(result["steps"] * training["batch_size"])


def _sum(values: Any) -> float | None:
    known = list(values)
    return None if None in known else sum(known, 0.0)
