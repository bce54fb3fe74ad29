"""What a report is made from: the plan and the store as it sees them, and what a cell came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import isfinite
from statistics import fmean
from typing import Any, Protocol

from ..catalogue.cell import Cell, primary_metric
from ..plan.ancestry import with_ancestors
from ..schema import Stage
from .means import mean_of_known


class CellView(Protocol):
    """A cell and the stages that make it."""

    cell: Cell
    selected: bool
    finals: dict[int, str]  # seed -> id of the stage whose result is the cell's
    stages: list[str]
    blocked: str | None  # why it cannot run
    stand_in: bool
    unlike: list[str]  # how its rows and its model visibly differ from the document's
    assumed: dict[str, str]  # recipe key -> why no source gives it
    knobs: dict[str, Any]
    """The resolved recipe of its last stage; `earlier`, if there, those of its chain's stages
    before it, by role; `not_taken` what its authors set for the task and no recipe here does."""
    comparison: str | None  # what was made equal for all methods; None: as published


class PlanView(Protocol):
    """The cells of a request and the stages they are made of."""

    stages: dict[str, Stage]
    comparison: str  # how its methods are compared, in words
    said: tuple[str, ...]  # what the request says of all cells: its preset, a budget, …
    gone: list[str]  # why inputs are not at hand, whose stages are taken as the store has them

    @property
    def cells(self) -> Mapping[str, CellView]: ...


class StoreView(Protocol):
    """A stage's stage.json, result.json and failure.json; None where there is none."""

    def stage(self, stage_id: str) -> dict[str, Any] | None: ...

    def result(self, stage_id: str) -> dict[str, Any] | None: ...

    def failure(self, stage_id: str) -> dict[str, Any] | None: ...


@dataclass
class CellOutcome:
    """What the store holds of one cell. Values are those of seeds that converged."""

    values: dict[int, dict[str, float]] = field(default_factory=dict)  # seed -> metric -> value
    diverged: dict[int, dict[str, float]] = field(default_factory=dict)
    failures: dict[int, dict[str, Any]] = field(default_factory=dict)  # seed -> failure.json
    final_values: dict[int, dict[str, float]] = field(default_factory=dict)  # of the last epoch
    results: list[dict[str, Any]] = field(default_factory=list)
    dense: dict[int, float] = field(default_factory=dict)
    """Of a cell of one's own: seed -> primary metric of the dense model that went into it."""

    @property
    def finished(self) -> bool:
        """With at least one seed, converged or not."""
        return bool(self.values or self.diverged)

    @property
    def measured_sparsity(self) -> float | None:
        """Share of the prunable weights that is zero, 0..1, over the seeds that say it."""
        return mean_of_known(map(measured_sparsity, self.results))[0]

    def of(self, metric: str) -> dict[int, float]:
        """Seed -> value, for the converged seeds that have this metric."""
        return {seed: m[metric] for seed, m in sorted(self.values.items()) if metric in m}

    def mean(self, metric: str) -> float | None:
        """Over the converged seeds that have this metric; None where none has."""
        values = self.of(metric)
        return fmean(values.values()) if values else None


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


def outcome_of(cell: CellView, plan: PlanView, store: StoreView) -> CellOutcome:
    """Read a cell's final stages; a seed without a result has failed if any of its stages has."""
    outcome = CellOutcome()
    for seed, final in cell.finals.items():
        if not cell.cell.table and (score := _dense_score(cell.cell, final, plan, store)):
            outcome.dense[seed] = score
        result = store.result(final)
        if result is None:
            for stage_id in ancestors(final, plan.stages):
                if store.result(stage_id) is None and (failure := store.failure(stage_id)):
                    outcome.failures[seed] = {"stage": stage_id} | failure
                    break
            continue
        metrics = finite(result.get("metrics"))
        diverged = result.get("status") == "not_converged"
        (outcome.diverged if diverged else outcome.values)[seed] = metrics
        if final_values := finite(result.get("final_metrics")):
            outcome.final_values[seed] = final_values
        outcome.results.append(result)
    return outcome


def _dense_score(cell: Cell, final: str, plan: PlanView, store: StoreView) -> float | None:
    made_of = [plan.stages[i] for i in ancestors(final, plan.stages) if i in plan.stages]
    dense = [s.id for s in made_of if is_dense_model(s.tags, s.recipe, cell.task)]
    result = store.result(dense[-1]) if dense else None
    return finite((result or {}).get("metrics")).get(primary_metric(cell.task))


def measured_sparsity(result: Mapping[str, Any]) -> float | None:
    """Of a stage's result; None where no weights were counted."""
    sparsity = result.get("sparsity") or {}
    return float(sparsity["overall"]) if sparsity.get("layers") else None


def as_asked_for(share: float | None, asked: float) -> bool:
    """Whether a measured sparsity, if known, is the target but for a tenth of a per cent."""
    return share is None or abs(share - asked) <= 0.0005


def finite(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    """Those of a result's metrics that are numbers: what is undefined is left out."""
    return {
        name: float(value)
        for name, value in (metrics or {}).items()
        if isinstance(value, (int, float)) and isfinite(value)
    }


class Once:
    """A store that reads each file once: cells share stages, and a report asks for them again."""

    def __init__(self, store: StoreView) -> None:
        self.stage = cache(store.stage)
        self.result = cache(store.result)
        self.failure = cache(store.failure)
