"""A forward pass: what a model is called with, where, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from ..schema import StageError
from ..task.heads import Batch

INPUTS = ("input_ids", "attention_mask", "token_type_ids")  # what a model is called with


def inputs(batch: Batch) -> Batch:
    """The part of a batch that a model is called with: labels stay behind."""
    return {name: batch[name] for name in INPUTS if name in batch}


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Copy to the device, from pinned memory and without waiting where that is a GPU."""
    if device.type == "cpu":
        return batch
    return {k: v.pin_memory().to(device, non_blocking=True) for k, v in batch.items()}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """What forward passes run in. Precision is part of the recipe, never the machine's choice."""
    if precision not in ("fp32", "bf16"):
        raise StageError(f"training.precision {precision!r} is unknown. Choose fp32 or bf16.")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
