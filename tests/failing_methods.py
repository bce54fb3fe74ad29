"""Magnitude pruning in which the machine fails, in the middle of a pruning step."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch

from obert_sweeps.method.base import PruneStep
from obert_sweeps.method.magnitude import Magnitude


class Killed(Magnitude):
    """Its process is killed once, when the masks have changed and nothing is saved yet."""

    def __init__(self, *, note: str) -> None:
        super().__init__()
        self.note = Path(note)

    def prune(self, step: PruneStep) -> None:
        super().prune(step)
        if step.final and not self.note.exists():
            self.note.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Greedy(Magnitude):
    """Wants more memory than there is."""

    def prune(self, step: PruneStep) -> None:
        super().prune(step)
        torch.ones(2**31, dtype=torch.uint8)
