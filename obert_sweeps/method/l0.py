"""l0 regularisation by hard concrete gates."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..schema import RequestError
from ..sparsity.mask import Masks
from .base import PruneStep
from .gate import GatedMethod

LOW, HIGH = -0.1, 1.1  # the concrete distribution is stretched to these and cut at 0 and 1
TEMPERATURE = 2 / 3
INITIAL_SCORE = 2.197  # logit of 0.9
NOISE_MARGIN = 1e-4  # uniform noise is kept so far from 0 and 1
SHUT = math.log(-LOW / HIGH)  # the score at which the gate of evaluation shuts


class L0(GatedMethod):
    """Each weight has a random gate that is often exactly 0 or 1; open gates have a price.

    In training g = clamp(s (HIGH - LOW) + LOW, 0, 1) with s = sigmoid((logit(u) + S) / (2/3)), u
    uniform; in evaluation s = sigmoid(S). The loss is charged lambda times the mean over layers of
    the expected share of gates above zero, mean sigmoid(S - (2/3) log(-LOW / HIGH)).

    Lambda decides what share goes, so the last pruning step ranks all weights by score and zeroes
    exactly the level asked for; what stays is multiplied by its gate of evaluation. If more gates
    are shut than were to go, all scores are raised alike until the highest of those to go is at the
    point of opening. A note says what share the method had come to itself. In a pattern of groups a
    weight that is kept with its group may have a shut gate of its own, and is then zero as well.

    Source: Louizos et al. 2018, Learning Sparse Neural Networks through L0 Regularization (arXiv
    1712.01312); movement-pruning in huggingface/transformers-research-projects (l0), whose gate of
    evaluation leaves the temperature out.

    score_lr: peak learning rate of the scores.
    penalty_weight: lambda, the same all the time.

    Caveats: it needs training before its last pruning step, and a dense start. Noise is drawn once
    an optimiser step, so gates do not depend on micro-batches. Groups of block and N:M patterns are
    formed, by mean score, in the last pruning step alone.
    """

    remembered = ("seed", "steps")

    def __init__(self, *, score_lr: float = 1e-1, penalty_weight: float = 125.0) -> None:
        super().__init__(score_lr, INITIAL_SCORE)
        if penalty_weight < 0:
            raise RequestError(
                f"method.penalty_weight is {penalty_weight:g}: a negative one pays for open gates."
                " Give 0 or more; the published example has 125."
            )
        self.penalty_weight = penalty_weight
        self.steps = 0  # optimiser steps taken
        self.noise: list[Tensor] = []  # logit(u) of this step, by layer; empty: to be drawn

    def attach(self, layers: dict[str, nn.Linear], masks: Masks) -> list[dict[str, Any]]:
        self.seed = int(torch.randint(2**62, ()))  # of the stage: its generator is seeded
        return super().attach(layers, masks)

    def gated_weight(self, name: str) -> Tensor:
        layer, place = self.layers[name], self.place[name]
        if not layer.training:
            return layer.weight * gate_of_evaluation(self.scores[place])
        if not self.noise:
            self.noise = self._draw()
        return layer.weight * random_gate(self.scores[place], self.noise[place])

    def penalty(self) -> Tensor | None:
        """lambda * mean over layers of the expected share of gates that are not shut."""
        if self.settled:
            return None
        means = torch.stack([chance_above_zero(score).mean() for score in self.scores])
        return self.penalty_weight * means.mean()

    def after_step(self) -> None:
        self.steps += 1
        self.noise = []

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self.noise = []

    @torch.no_grad()
    def prune(self, step: PruneStep) -> None:
        if not step.final:
            return
        keep = step.pattern.select(self.costs(step.pattern), step.level)
        scores = torch.cat([score.flatten() for score in self.scores])
        shut, goes = int((scores <= SHUT).sum()), sum(int((~mask).sum()) for mask in keep.values())
        step.note(
            f"{shut / scores.numel():.2%} of the gates are shut by themselves; the lowest"
            f" {step.level:.2%} go"
        )
        raised = SHUT - float(scores.kthvalue(goes).values) if 0 < goes < shut else 0.0
        for layer, score in zip(step.layers.values(), self.scores, strict=True):
            layer.weight.mul_(gate_of_evaluation(score + raised))
        self.settle(step, keep)

    def _draw(self) -> list[Tensor]:
        """One draw a step, from seed and step alone: the same after a restart."""
        generator = torch.Generator(self.scores[0].device).manual_seed(self.seed + self.steps)
        drawn = []
        for score in self.scores:
            u = torch.rand(score.shape, generator=generator, device=score.device)
            drawn.append(u.clamp_(NOISE_MARGIN, 1 - NOISE_MARGIN).logit_().to(score.dtype))
        return drawn


def random_gate(score: Tensor, noise: Tensor) -> Tensor:
    """The hard concrete gate of training, 0..1; noise is logit(u)."""
    return stretched(torch.sigmoid((noise + score) / TEMPERATURE))


def gate_of_evaluation(score: Tensor) -> Tensor:
    """The gate without noise, 0..1: exactly 0 up to the score SHUT."""
    return stretched(torch.sigmoid(score))


def stretched(s: Tensor) -> Tensor:
    """From 0..1 to LOW..HIGH, and cut at 0 and 1."""
    return (s * (HIGH - LOW) + LOW).clamp(0, 1)


def chance_above_zero(score: Tensor) -> Tensor:
    """The probability that the gate of training is above zero (Louizos et al. 2018, eq. 12)."""
    return torch.sigmoid(score - TEMPERATURE * math.log(-LOW / HIGH))
