"""Optimiser, parameter groups, learning rate of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..schema import LearningRatePiece, StageError, Training
from .adamax import Adamax
from .learning_rate import learning_rate


def freeze(model: nn.Module, parts: Sequence[str]) -> None:
    """Hold parameters fixed whose names contain one of `parts`. StageError if one matches none."""
    for part in parts:
        found = [p for name, p in model.named_parameters() if part in name]
        if not found:
            names = ", ".join(name for name, _ in list(model.named_parameters())[:3])
            raise StageError(
                f"training.freeze has {part!r}, and no parameter's name contains it. Names look"
                f" like {names}, …"
            )
        for parameter in found:
            parameter.requires_grad_(False)


def make_optimizer(
    training: Training, model: nn.Module, extra: Sequence[dict[str, Any]]
) -> torch.optim.Optimizer:
    """The optimiser of a stage. Biases and normalisation weights are not decayed.

    `extra` are the groups of `Method.attach`. A group's own `lr` is its peak: it then follows the
    schedule in proportion; without one it has the schedule's rate. Its `weight_decay` is 0 unless
    it says otherwise.
    """
    ours = {id(p) for group in extra for p in group["params"]}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in ours]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    for group in extra:
        groups.append({"weight_decay": 0.0, **group, "peak": group.get("lr")})
    groups = [group for group in groups if group["params"]]
    if training.optimizer == "adamax":
        return Adamax(groups, lr=0.0)
    # One kernel for all weights; on CPU, too, several times faster than one at a time.
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


def set_learning_rate(
    optimizer: torch.optim.Optimizer,
    pieces: Sequence[LearningRatePiece],
    step: int,
    steps_per_epoch: int,
) -> float:
    """Set every group's rate for optimiser step `step` (0-based); return the schedule's."""
    rate = learning_rate(pieces, step, steps_per_epoch)
    highest = max(max(piece.initial, piece.final) for piece in pieces)
    for group in optimizer.param_groups:
        peak = group.get("peak")
        group["lr"] = rate if peak is None else peak * (rate / highest if highest else 0.0)
    return rate
