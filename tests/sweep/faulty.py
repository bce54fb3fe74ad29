"""Magnitude pruning at one worker of which something goes wrong, once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from obert_sweeps.method.base import PruneStep
from obert_sweeps.method.magnitude import Magnitude
from obert_sweeps.schema import StageError


class Faulty(Magnitude):
    """`fault` (killed, stopped, refuses) befalls worker `rank` at the first pruning step.

    Each worker writes its pid to `diary`, and there a fault is noted, so that it comes once.
    """

    def __init__(self, *, diary: str, fault: str = "", rank: int = 1) -> None:
        super().__init__()
        self.diary, self.fault, self.rank = Path(diary), fault, rank

    def prune(self, step: PruneStep) -> None:
        super().prune(step)
        self.diary.mkdir(exist_ok=True)
        note = self.diary / f"{step.group.rank} {os.getpid()}"
        note.touch()
        done = self.diary / "fault"
        if step.group.rank != self.rank or not self.fault or done.exists():
            return
        done.touch()
        if self.fault == "refuses":
            raise StageError("this worker has no such file")
        os.kill(os.getpid(), signal.SIGKILL if self.fault == "killed" else signal.SIGSTOP)
        time.sleep(60)  # until the signal arrives


def pids(diary: Path) -> dict[int, list[int]]:
    """The processes that were each rank, by rank."""
    found: dict[int, list[int]] = {}
    for note in sorted(diary.glob("* *"), key=lambda path: path.stat().st_mtime_ns):
        rank, pid = note.name.split()
        found.setdefault(int(rank), []).append(int(pid))
    return found
