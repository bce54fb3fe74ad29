"""Gated linear layers: what methods that learn a score for each weight have in common.

Until the last pruning step a prunable layer computes y = x (g(S) * W)^T + b, with a gate g(S) for
each weight and S, its score, a parameter of the method. The model keeps its classes and names of
parameters: only the layers' `forward` is replaced, and put back at the end. W holds its stored
value behind a closed gate and may come back; masks stay open meanwhile.

Source: masked_nn.py, binarizer.py and modeling_bert_masked.py of movement-pruning in
huggingface/transformers-research-projects.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..schema import RequestError, StageError
from ..sparsity.mask import Masks
from ..sparsity.pattern import Pattern
from .base import Asked, Method, PruneStep


class GatedMethod(Method, ABC):
    """Scores of the layers' weights, trained with the weights at a learning rate of their own.

    score_lr: peak learning rate of the scores, which follow the schedule in proportion.
    initial_score: what every score starts from.
    """

    remembered: tuple[str, ...] = ()  # attributes, plain data, that a checkpoint holds

    def __init__(self, score_lr: float, initial_score: float) -> None:
        super().__init__()
        if score_lr <= 0:
            raise RequestError(
                f"method.score_lr is {score_lr:g}: scores that are not trained choose nothing. Give"
                " a positive learning rate; published are 0.01, and 0.1 for l0."
            )
        self.score_lr = score_lr
        self.initial_score = initial_score
        self.settled = False  # whether the last pruning step is past

    def check(self, asked: Asked) -> None:
        """Training must come before the last pruning step, whose level the pattern must have."""
        if not asked.last:
            raise RequestError(self._no_score())
        asked.pattern.check_level(asked.target)

    def attach(self, layers: dict[str, nn.Linear], masks: Masks) -> list[dict[str, Any]]:
        """StageError if something is pruned already: such weights give no gradient to score by."""
        if not masks.is_dense:
            raise StageError(
                f"{type(self).__name__} learns from a dense model which weights go, and"
                f" {masks.sparsity():.2%} of this one is pruned already. Start from a dense stage."
            )
        self.layers = layers
        self.scores = nn.ParameterList(
            torch.full_like(layer.weight, self.initial_score) for layer in layers.values()
        )
        self.place = {name: i for i, name in enumerate(layers)}
        for name, layer in layers.items():
            layer.forward = partial(self._forward, name)
        return [{"params": list(self.scores), "lr": self.score_lr}]

    @abstractmethod
    def gated_weight(self, name: str) -> Tensor:
        """g(S) * W of a layer, (out, in), with gradient to both."""

    def costs(self, pattern: Pattern) -> dict[str, Tensor]:
        """The scores as costs of a pattern's candidates: the lowest go first."""
        named = zip(self.layers, self.scores, strict=True)
        return {name: pattern.costs(score.detach(), name) for name, score in named}

    def settle(self, step: PruneStep, keep: dict[str, Tensor]) -> None:
        """The end of the last pruning step: masks take over and the layers are plain again.

        StageError if the scores are as they were at the start.
        """
        if all(bool((score == self.initial_score).all()) for score in self.scores):
            raise StageError(self._no_score())
        step.masks.replace(keep)
        step.masks.apply()
        self.settled = True
        self._make_plain()

    def get_extra_state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("settled", *self.remembered)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        if self.settled:
            self._make_plain()

    def _no_score(self) -> str:
        return (
            f"{type(self).__name__} scores weights in training, and no score has moved before the"
            " last pruning step. Choose a schedule that trains before it, such as this method's"
            " own; one-shot pruning needs another method."
        )

    def _forward(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.gated_weight(name), self.layers[name].bias)

    def _make_plain(self) -> None:
        for layer in self.layers.values():
            vars(layer).pop("forward", None)


class BinaryGates(GatedMethod):
    """Gates that are open or shut, by the scores as they are now.

    The gradient passes straight through the choice: dL/dS = dL/dg = dL/d(g W) * W. Gates are chosen
    again only when scores or level have changed, so micro-batches and evaluations share them.
    """

    def __init__(self, score_lr: float) -> None:
        super().__init__(score_lr, initial_score=0.0)
        self.gates: dict[str, Tensor] = {}  # 0 or 1, in the weights' type; empty: to be chosen

    @abstractmethod
    def open_gates(self) -> dict[str, Tensor]:
        """Which gates are open, by the current scores: bool (out, in) by layer."""

    def gated_weight(self, name: str) -> Tensor:
        if not self.gates:
            with torch.no_grad():
                chosen = self.open_gates()
                self.gates = {n: g.to(self.layers[n].weight.dtype) for n, g in chosen.items()}
        weight, score = self.layers[name].weight, self.scores[self.place[name]]
        gated: Tensor = _StraightThrough.apply(weight, score, self.gates[name])
        return gated

    def after_step(self) -> None:
        self.gates = {}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self.gates = {}


class _StraightThrough(torch.autograd.Function):
    """weight * gate; the gate's gradient goes to the score that it was chosen by."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, score: Tensor, gate: Tensor) -> Tensor:
        ctx.save_for_backward(weight, gate)
        return weight * gate

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, gate = ctx.saved_tensors
        return gradient * gate, gradient * weight, None


def highest(costs: Tensor, count: int) -> Tensor:
    """True at the `count` highest of all entries, exactly so many whatever is equal; no sorting."""
    if count >= costs.numel():
        return torch.ones_like(costs, dtype=torch.bool)
    chosen = torch.zeros(costs.numel(), dtype=torch.bool, device=costs.device)
    chosen[costs.flatten().topk(count, sorted=False).indices] = True
    return chosen.view_as(costs)
