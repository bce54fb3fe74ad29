"""What every kind of stage has at hand, and what it hands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..schema import Runtime, Stage
from ..store import StageFolder, Store
from ..tracker.base import Tracker
from ..train.cost import Spent, cost
from ..train.machine import environment
from ..worker_group import WorkerGroup


@dataclass(frozen=True)
class StageWriter:
    """Where rank 0 writes what becomes of a stage."""

    folder: StageFolder
    tracker: Tracker

    def write(self, record: dict[str, Any]) -> None:
        self.folder.append(record)
        self.tracker.log(record)


Result = dict[str, Any]

# Does a stage's work and gives its result.json. A worker without a writer (rank 1 and up) works
# along and gives nothing.
Kind = Callable[[Stage, Runtime, WorkerGroup, StageWriter | None], Result | None]


def finished(
    spec: Stage, how: Runtime, device: torch.device, spent: Spent, found: Result, workers: int = 1
) -> Result:
    """A stage's result.json: what was `found`, and what every kind of stage tells."""
    return {
        "id": spec.id,
        "status": "done",
        **found,
        "cost": cost(spent, device, workers),
        "environment": environment(how, device, workers),
    }


def inherited(spec: Stage, how: Runtime) -> Result | None:
    """The result of a stage whose weights or masks would come from one that did not converge.

    It did not converge either: a chain's divergence is its cell's result. A teacher that did not is
    another matter, and a failure.
    """
    store = Store(how.store)
    for role in ("start", "masks"):
        parent = spec.parents.get(role, "")
        result = store.result(parent) if parent else None
        diverged = result is not None and result["status"] == "not_converged"
        if result and diverged and not store.folder(parent).has_folder("model"):
            return not_begun(spec.id, role, result)
    return None


def not_begun(stage: str, role: str, parent: dict[str, Any]) -> Result:
    """The result of a stage that has nothing to begin with: its parent of `role` diverged."""
    reason = parent.get("evidence", {}).get("reason", "")
    what = {"start": "stage it starts from", "masks": "stage its masks come from"}[role]
    return {
        "id": stage,
        "status": "not_converged",
        "metrics": {},
        "final_metrics": {},
        "steps": 0,
        "sparsity": {"overall": 0.0, "layers": {}},
        "evidence": {"reason": f"the {what} did not converge: {reason}", "stage": parent["id"]},
        "rates": {},
        "cost": {"seconds": 0.0, "cpu_seconds": 0.0, "gpu_seconds": 0.0},
        "environment": {},
    }
