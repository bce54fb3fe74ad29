"""Which stages a cell is made of, and which of them are its dense model's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...plan.ancestry import with_ancestors
from ...schema import Stage
from .views import CellView, PlanView


def ancestors(stage_id: str, stages: Mapping[str, Stage]) -> list[str]:
    """The stage and all it needs, parents first, each once."""
    return with_ancestors([stage_id], lambda i: stages[i].parents.values() if i in stages else ())


def dense_stages(cell: CellView, plan: PlanView) -> list[str]:
    """What the dense model that a cell is compared with is made of, itself last; may be empty.

    In the document that is its row's. A cell of one's own has no row: there it is what was trained
    on the cell's task and nothing pruned has gone into, the last of them where there are several.
    """
    baseline = plan.cells.get(cell.cell.baseline or "")
    if baseline is not None:
        return list(baseline.stages)
    if cell.cell.table or cell.cell.method == "dense":
        return []
    found: dict[str, None] = {}
    for stage in (plan.stages[i] for i in cell.stages if i in plan.stages):
        if is_dense_model(stage.tags, stage.recipe, cell.cell.task):
            found |= dict.fromkeys(ancestors(stage.id, plan.stages))
    return list(found)


def is_dense_model(tags: Mapping[str, str], recipe: Mapping[str, Any], task: str) -> bool:
    """Whether a stage trains on the task and nothing pruned has gone into it."""
    said = (tags.get("task"), tags.get("sparsity"))
    return said == (task, "dense") and "training" in recipe


def of_own_seeds(values: Mapping[int, float], cell: CellView, dense: CellView) -> dict[int, float]:
    """The values, by seed, of those runs of `dense` that the cell's models are made from.

    Seeds of one-shot pruning all start from one dense model. Where a cell is made from none of the
    runs it is compared with all of them.
    """
    own = {seed for seed, final in dense.finals.items() if final in cell.stages}
    return {seed: v for seed, v in values.items() if seed in own or not own}


def own_stages(cell: CellView, final: str, plan: PlanView) -> list[Stage]:
    """The final stage and those it needs that the cell's dense model does not, parents first."""
    shared = set(dense_stages(cell, plan))
    needed = ancestors(final, plan.stages)
    return [plan.stages[i] for i in needed if i in plan.stages and i not in shared]
