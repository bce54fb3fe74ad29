"""Stages one after another in this process: no Ray, the same events and the same results."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import Any

from ..schema import Runtime
from .attempt import carry_out, own_runtime
from .ledger import Ledger
from .signals import interruptible


def run(ledger: Ledger, runtime: Runtime, cluster: dict[str, Any], run_stage: str) -> None:
    """Run all stages of the ledger; see `sweep.run_plan`."""
    # Before torch is imported: idle OpenMP threads must not spin on cores that others use.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    frontier = ledger.frontier
    with interruptible():
        while not frontier.all_done:
            ledger.look_at_held()
            stage = frontier.next_ready()
            if stage is None:
                time.sleep(0.2)  # only held stages are left
                continue
            frontier.started(stage.id)
            ledger.started(stage.id)
            own = asdict(own_runtime(stage, runtime))
            ledger.ended(stage.id, carry_out(stage.as_dict(), own, run_stage))
