"""Random pruning."""

from __future__ import annotations

import torch

from ..sparsity.pattern import Scope, check_scope
from .base import Method, PruneStep


class Random(Method):
    """Weights are removed at random; the rest stay as they are.

    Source: none; it is the floor that every method must beat. The draw follows from the stage's
    seed and the pruning step.

    scope: as in magnitude pruning.
    """

    version = 2  # 2: no two seeds of a stage draw the same lots for any of their steps

    def __init__(self, *, scope: Scope = "global") -> None:
        super().__init__()
        check_scope(scope)
        self.scope = scope

    def prune(self, step: PruneStep) -> None:
        generator = torch.Generator().manual_seed(step.seed)
        lots = {
            name: torch.rand(layer.weight.shape, generator=generator).to(layer.weight.device)
            for name, layer in step.layers.items()
        }
        step.zero_lowest(lots, self.scope)
