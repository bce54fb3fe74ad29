"""A forward pass: what a model is called with, where, in which precision, with whom."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from ..schema import StageError
from ..task.heads import Batch
from ..worker_group import ALONE, WorkerGroup

INPUTS = ("input_ids", "attention_mask", "token_type_ids")  # what a model is called with


@dataclass(frozen=True)
class Setup:
    """How all that runs a stage's model does so. StageError for a precision that is unknown."""

    device: torch.device
    precision: str = "fp32"  # part of the recipe, never the machine's choice
    group: WorkerGroup = ALONE  # who shares the work
    note: Callable[[str], None] = lambda text: None  # gets what a reader of the log should know

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16"):
            raise StageError(
                f"training.precision {self.precision!r} is unknown. Choose fp32 or bf16."
            )

    def autocast(self) -> AbstractContextManager[Any]:
        """What forward passes run in."""
        half = self.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half)


def inputs(batch: Batch) -> Batch:
    """The part of a batch that a model is called with: labels stay behind."""
    return {name: batch[name] for name in INPUTS if name in batch}


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Copy to the device, from pinned memory and without waiting where that is a GPU."""
    if device.type == "cpu":
        return batch
    return {k: v.pin_memory().to(device, non_blocking=True) for k, v in batch.items()}
