"""Stages one after another in this process: no Ray, the same events and the same results."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import Any

from ..schema import Interrupted, Runtime
from .ledger import Ledger
from .workers import carry_out, runtime_of


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise Interrupted where the process is; leases are then given back."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
            own = asdict(runtime_of(stage, runtime))
            ledger.ended(stage.id, carry_out(stage.as_dict(), own, run_stage))
