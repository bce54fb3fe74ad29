"""A plan and a store without files, for tests of the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from obert_sweeps.catalogue.cell import Cell, primary_metric
from obert_sweeps.catalogue.tables import document_cells
from obert_sweeps.schema import Stage


@dataclass
class FakeCellPlan:
    cell: Cell
    selected: bool = True
    finals: dict[int, str] = field(default_factory=dict)
    stages: list[str] = field(default_factory=list)
    blocked: str | None = None
    stand_in: bool = False
    unlike: list[str] = field(default_factory=list)
    assumed: dict[str, str] = field(default_factory=dict)
    knobs: dict[str, Any] = field(default_factory=dict)
    comparison: str | None = None

    @property
    def metric(self) -> str:
        return primary_metric(self.cell.task, self.knobs.get("task"))


@dataclass
class FakeSweep:
    """Plan and store in one. Each cell has one final stage a seed, `<cell>#<seed>`."""

    cells: dict[str, FakeCellPlan]
    stages: dict[str, Stage]
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    comparison: str = "as published"
    said: tuple[str, ...] = ("preset=demo", "budget.max_train_rows=9")
    gone: list[str] = field(default_factory=list)

    def stage(self, stage_id: str) -> dict[str, Any] | None:
        return self.stages[stage_id].as_dict() if stage_id in self.stages else None

    def result(self, stage_id: str) -> dict[str, Any] | None:
        self.reads.append(stage_id)
        return self.results.get(stage_id)

    def failure(self, stage_id: str) -> dict[str, Any] | None:
        return self.failures.get(stage_id)

    def finish(
        self, cell_id: str, seed: int, status: str = "done", **metrics: float
    ) -> dict[str, Any]:
        stage = self.cells[cell_id].finals[seed]
        self.results[stage] = {
            "id": stage,
            "status": status,
            "metrics": metrics,
            "final_metrics": dict(metrics),
            "steps": 100,
            "cost": {"seconds": 2.0, "cpu_seconds": 1.5, "gpu_seconds": 0.5},
            "environment": {"host": "a", "versions": {"torch": "2.13.0"}},
        }
        return self.results[stage]

    def finish_as_published(self, offsets: dict[int, float]) -> None:
        """Every cell comes out as printed, plus an offset for each seed; NA does not converge.

        Seeds do not move all cells alike: some methods take a little less of it.
        """
        shares = {"obert": 0.9, "lottery": 0.95, "prune_ofa": 0.97}
        for name, plan in self.cells.items():
            for seed, offset in offsets.items():
                offset *= shares.get(plan.cell.method, 1.0)
                known = {m: v for m, v in plan.cell.published.items() if v is not None}
                if not plan.cell.converges:
                    zeros = dict.fromkeys(plan.cell.published, 0.0)
                    self.finish(name, seed, "not_converged", **zeros)
                else:
                    values = known or dict.fromkeys(plan.cell.published, 80.0)
                    self.finish(name, seed, **{m: v + offset for m, v in values.items()})


def sweep(seeds: tuple[int, ...] = (1, 2, 3), stand_in: bool = False) -> FakeSweep:
    """All 69 cells, each of one stage a seed that starts from its dense cell's stage."""
    plans: dict[str, FakeCellPlan] = {}
    stages: dict[str, Stage] = {}
    for cell in document_cells():
        knobs = {
            "kind": "train",
            "training": {
                "epochs": 0 if cell.variant == "2of4" else 8,
                "batch_size": 32,
                "learning_rate": [{"initial": 1e-4}],
                "pruning": {"start": 0, "end": 0, "every": None},
                "distill": None,
            },
            "method": {"_target_": f"package.{cell.method}"},
        }
        if cell.method == "obert":
            knobs["method"] |= {"num_grads": 64, "grad_batch_size": 16}
        plan = FakeCellPlan(cell, stand_in=stand_in, knobs=knobs)
        for seed in seeds:
            stage_id = f"{cell.id}#{seed}".replace("/", "-")
            parents = {"start": plans[cell.baseline].finals[seed]} if cell.baseline else {}
            stages[stage_id] = Stage(
                stage_id,
                f"{cell.schedule} {cell.id} seed {seed}",
                knobs,
                seed,
                parents,
                tags={"role": cell.schedule, "task": cell.task},
                cost={"seconds": 3.0},
            )
            plan.finals[seed] = stage_id
            plan.stages += [*parents.values(), stage_id]
        plans[cell.id] = plan
    return FakeSweep(plans, stages)
