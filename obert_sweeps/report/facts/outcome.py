"""What the store holds of a cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from statistics import fmean
from typing import Any

from .lineage import ancestors, is_dense_model
from .means import mean_of_known
from .views import CellView, PlanView, StoreView


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

    def at_last_epoch(self) -> CellOutcome:
        """The same, with each seed's last epoch instead of the one whose weights were kept."""
        last = {seed: self.final_values.get(seed, found) for seed, found in self.values.items()}
        return replace(self, values=last)

    def mean(self, metric: str) -> float | None:
        """Over the converged seeds that have this metric; None where none has."""
        values = self.of(metric)
        return fmean(values.values()) if values else None


def outcome_of(cell: CellView, plan: PlanView, store: StoreView) -> CellOutcome:
    """Read a cell's final stages; a seed without a result has failed if any of its stages has."""
    outcome = CellOutcome()
    for seed, final in cell.finals.items():
        if not cell.cell.table and (score := _dense_score(cell, final, plan, store)):
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


def _dense_score(cell: CellView, final: str, plan: PlanView, store: StoreView) -> float | None:
    made_of = [plan.stages[i] for i in ancestors(final, plan.stages) if i in plan.stages]
    dense = [s.id for s in made_of if is_dense_model(s.tags, s.recipe, cell.cell.task)]
    result = store.result(dense[-1]) if dense else None
    return finite((result or {}).get("metrics")).get(cell.metric)


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
