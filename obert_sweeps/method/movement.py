"""Movement pruning."""

from __future__ import annotations

import torch
from torch import Tensor

from ..sparsity.pattern import Scope, check_scope, pattern_named
from .base import Asked, Method, PruneStep
from .gate import BinaryGates, highest


class Movement(BinaryGates):
    """Weights that training moves towards zero go; until the last step they may return.

    In every forward pass the gates of the highest scores are open, as many as the schedule's level
    leaves; gradients pass straight through. Scores start at 0, so that under plain SGD they come to
    -lr * sum of dL/d(g W) * W. A pruning step sets the level, the last one keeps the choice for
    good. A block is ranked by its mean score.

    Source: Sanh et al. 2020, Movement Pruning (arXiv 2005.07683); movement-pruning in
    huggingface/transformers-research-projects (topK).

    score_lr: peak learning rate of the scores. It scales all of them alike, so only rounding makes
    the choice depend on it.
    scope: "tensor" opens the same share of each layer, "global" ranks all together. No effect on
    N:M patterns, which choose in each group.

    Caveats: it needs training before its last pruning step, and a dense start.
    """

    remembered = ("level", "pattern")

    def __init__(self, *, score_lr: float = 1e-2, scope: Scope = "tensor") -> None:
        super().__init__(score_lr)
        check_scope(scope)
        self.scope = scope
        self.level, self.pattern = 0.0, "unstructured"  # what the last pruning step asked for

    def check(self, asked: Asked) -> None:
        super().check(asked)
        Method.check(self, asked)  # gates follow each level on the way

    def open_gates(self) -> dict[str, Tensor]:
        pattern = pattern_named(self.pattern)
        costs = self.costs(pattern)
        if self.scope == "global" or not pattern.groups_compete:
            return pattern.select(costs, self.level, self.scope)
        # As `select` does, several times faster: it is done after each optimiser step.
        kept = {
            name: cost.numel() - round(self.level * cost.numel()) for name, cost in costs.items()
        }
        return {n: pattern.spread(highest(c, kept[n])) for n, c in costs.items()}

    @torch.no_grad()
    def prune(self, step: PruneStep) -> None:
        self.level, self.pattern, self.gates = step.level, step.pattern.name, {}
        if step.final:
            costs = self.costs(step.pattern)
            self.settle(step, step.pattern.select(costs, step.level, self.scope))
