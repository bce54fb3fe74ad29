"""Soft movement pruning."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..schema import RequestError
from ..sparsity.pattern import Pattern, pattern_named
from .base import PruneStep
from .gate import BinaryGates, highest

LEAST_KEPT = 0.005  # share of each layer whose gates are open whatever the threshold


class SoftMovement(BinaryGates):
    """Movement pruning by a threshold on the scores, with a price on high ones.

    A gate is open where sigmoid(S) > tau, and at the 0.5 % highest of each layer in any case;
    gradients pass straight through. The loss is charged lambda times the mean over layers of
    mean(sigmoid(S)). As the schedule climbs from 0 to its target, tau climbs from 0 to `threshold`
    and lambda from 0 to `penalty_weight`. Scores start at 0.

    Lambda decides what share goes, so the last pruning step moves the threshold, one for all
    layers, to where exactly the level asked for is below it; a note says what share the method's
    own threshold had come to.

    Source: Sanh et al. 2020, Movement Pruning (arXiv 2005.07683); movement-pruning in
    huggingface/transformers-research-projects (sigmoied_threshold, regularization l1).

    score_lr: peak learning rate of the scores.
    threshold: tau at the end, 0..1.
    penalty_weight: lambda at the end.

    Caveats: it needs training before its last pruning step, and a dense start. A block has the
    score of its members' mean; N:M groups are formed in the last pruning step alone.
    """

    remembered = ("pattern", "progress")

    def __init__(
        self, *, score_lr: float = 1e-2, threshold: float = 0.1, penalty_weight: float = 400.0
    ) -> None:
        super().__init__(score_lr)
        if not 0 < threshold < 1:
            raise RequestError(
                f"method.threshold is {threshold:g}; it is compared with sigmoid(S), so it lies"
                " between 0 and 1. The published one is 0.1."
            )
        if penalty_weight < 0:
            raise RequestError(
                f"method.penalty_weight is {penalty_weight:g}: a negative one pays for high scores."
                " Give 0 or more; the published example has 400."
            )
        self.threshold = threshold
        self.penalty_weight = penalty_weight
        self.progress = 0.0  # of the schedule towards its target, 0..1: cubic in time
        self.pattern = "unstructured"

    def penalty(self) -> Tensor | None:
        """lambda * mean over layers of mean(sigmoid(S)); lambda grows as the threshold does."""
        if self.settled or not self.progress:
            return None
        means = torch.stack([torch.sigmoid(score).mean() for score in self.scores])
        return self.penalty_weight * self.progress * means.mean()

    def open_gates(self) -> dict[str, Tensor]:
        pattern = ranking(self.pattern)
        costs, cut = self.costs(pattern), logit(self.threshold * self.progress)
        above = {name: cost > cut for name, cost in costs.items()}
        counts = torch.stack([mask.sum() for mask in above.values()]).tolist()
        for (name, cost), count in zip(costs.items(), counts, strict=True):
            if count < least_kept(cost):
                above[name] = highest(cost, least_kept(cost))
        return {name: pattern.spread(mask) for name, mask in above.items()}

    @torch.no_grad()
    def prune(self, step: PruneStep) -> None:
        self.pattern, self.gates = step.pattern.name, {}
        self.progress = step.level / step.target if step.target > 0 else 1.0
        if not step.final:
            return
        gates = self.open_gates()
        shut = sum(int((~gate).sum()) for gate in gates.values())
        own = shut / sum(gate.numel() for gate in gates.values())
        step.note(
            f"the threshold of {self.threshold:g} shuts {own:.2%} of the gates; it is moved to"
            f" where that is {step.level:.2%}"
        )
        costs = self.costs(step.pattern)
        if step.pattern.groups_compete:
            top = max(float(cost.max()) for cost in costs.values())
            costs = {  # the least that each layer keeps goes last
                n: cost.masked_fill(highest(cost, least_kept(cost)), top + 1)
                for n, cost in costs.items()
            }
        self.settle(step, step.pattern.select(costs, step.level))


def ranking(pattern: str) -> Pattern:
    """The pattern whose groups have a score of their own: that of the name, or single weights."""
    found = pattern_named(pattern)
    return found if found.groups_compete else pattern_named("unstructured")


def least_kept(costs: Tensor) -> int:
    """How many of a layer's groups stay open in any case."""
    return int(LEAST_KEPT * costs.numel()) + 1


def logit(share: float) -> float:
    """The score whose sigmoid is `share`; every score is above that of 0."""
    return math.log(share / (1 - share)) if share else -math.inf
