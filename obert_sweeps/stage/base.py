"""What every kind of stage has at hand, and what it hands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..schema import Runtime, Stage
from ..store import StageFolder, Store
from ..tracker.base import Tracker
from ..worker_group import WorkerGroup


@dataclass(frozen=True)
class Desk:
    """Where rank 0 writes."""

    folder: StageFolder
    tracker: Tracker

    def write(self, record: dict[str, Any]) -> None:
        self.folder.append(record)
        self.tracker.log(record)


Result = dict[str, Any]

# Does a stage's work and gives its result.json. A worker without a desk (rank 1 and up) works along
# and gives nothing.
Kind = Callable[[Stage, Runtime, WorkerGroup, Desk | None], Result | None]


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
