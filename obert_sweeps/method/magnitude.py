"""Magnitude pruning."""

from __future__ import annotations

from ..sparsity.pattern import Scope, check_scope
from .base import Method, PruneStep


class Magnitude(Method):
    """The weights of lowest magnitude go; the rest stay as they are.

    A single weight costs |w|, a block the mean |w| of its members, and of a group of an N:M pattern
    the smallest go. One-shot or gradual, as the schedule says. Pruned weights stay pruned.

    Source: Zhu & Gupta 2017 for the gradual schedule; sparseml modifier_pruning_magnitude.py and
    mask_creator.py for the rules (its GlobalMagnitude is scope global, its Magnitude scope tensor).

    scope: "global" ranks the weights of all layers together, "tensor" those of each layer apart,
    every layer to the same sparsity. No effect on N:M patterns, which choose in each group.

    Caveats: a global ranking can empty a layer whose weights are small; it looks at no data.
    """

    def __init__(self, *, scope: Scope = "global") -> None:
        super().__init__()
        check_scope(scope)
        self.scope = scope

    def prune(self, step: PruneStep) -> None:
        sizes = {name: layer.weight.detach().abs() for name, layer in step.layers.items()}
        step.zero_lowest(sizes, self.scope)
