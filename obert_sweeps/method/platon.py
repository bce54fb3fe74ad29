"""PLATON: sensitivity times uncertainty of single weights, averaged over training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..schema import RequestError, StageError
from ..sparsity.mask import Masks
from ..sparsity.pattern import Pattern
from .base import Asked, Method, PruneStep


class Platon(Method):
    """Weights of low sensitivity that are certain to be so go; until the last step they may return.

    After each optimiser step I = |w g|, of the new weight and the clipped gradient of that step, is
    averaged over a window of `window` steps. At the window's end

        Ibar <- beta1 Ibar + (1 - beta1) I
        Ubar <- beta2 Ubar + (1 - beta2) |I - Ibar|,

    and the next window begins with the current step. A weight costs Ibar Ubar. One ranking holds
    the layers' weights and their biases. On the way up to the target a pruning step sets the lowest
    to zero and leaves them free to grow from there. Once the level is the target they are zeroed
    after each optimiser step, as long as the last pruning step chose them: they go on to receive
    gradients, so the next one may choose others. The final choice is kept for good.

    Source: Zhang et al. 2022, PLATON (ICML), and its repository's Pruner.py.

    window: optimiser steps (deltaT); the schedule's pruning.every_steps should be the same.
    beta1, beta2: decay of the averages of sensitivity and uncertainty. beta2 = 1 ranks by Ibar.

    Caveats: sparsity counts the weights of the layers alone, as the tables do. The repository
    counts biases too (a thousandth of BERT-base's parameters); here the common ranking is cut where
    the weights have reached the level. A weight that returns at the target level starts from zero,
    where the repository's has taken one step already. It needs gradients of training: there is no
    one-shot PLATON. Patterns whose groups do not compete with each other (2:4) leave the biases
    alone.
    """

    recent: Tensor  # mean |w g| of the window so far, (n,): all weights and then all biases
    sensitivity: Tensor  # Ibar, (n,)
    uncertainty: Tensor  # Ubar, (n,)
    biases_held: Tensor

    for_good = False

    def __init__(self, *, window: int = 10, beta1: float = 0.85, beta2: float = 0.95) -> None:
        super().__init__()
        if window < 1:
            raise RequestError(f"method.window is {window} optimiser steps; give at least 1.")
        if not (0 <= beta1 < 1 and 0 <= beta2 <= 1):
            raise RequestError(
                f"method.beta1 is {beta1:g} and beta2 {beta2:g}: decays lie between 0 and 1 (beta1"
                " below it). The published ones are 0.85, and 0.85 to 0.95."
            )
        self.window = window
        self.beta1 = beta1
        self.beta2 = beta2

    def check(self, asked: Asked) -> None:
        super().check(asked)
        if asked.last < self.window:
            raise RequestError(self._no_window(asked.last))

    def attach(self, layers: dict[str, nn.Linear], masks: Masks) -> list[dict[str, Any]]:
        self.names = list(layers)
        biases: list[Tensor] = [layer.bias for layer in layers.values() if layer.bias is not None]
        self.first_bias = len(layers)
        # One vector for all, weights before biases: few and large operations.
        self.scored = [*(layer.weight for layer in layers.values()), *biases]
        whole = torch.cat([torch.zeros_like(p).flatten() for p in self.scored])
        for name in ("recent", "sensitivity", "uncertainty"):
            self.register_buffer(name, whole.clone())
        held = torch.ones_like(whole[: sum(b.numel() for b in biases)])
        self.register_buffer("biases_held", held)  # 0 where a bias is held at zero
        self.steps = 0
        return []

    def get_extra_state(self) -> Tensor:
        # No buffer: a number on the device would be waited for at each step.
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        self.steps = int(state)

    @torch.no_grad()
    def after_step(self) -> None:
        self.steps += 1
        if self.steps % self.window == 0:
            self.sensitivity.lerp_(self.recent, 1 - self.beta1)
            off = (self.recent - self.sensitivity).abs_()
            self.uncertainty.lerp_(off, 1 - self.beta2)
        # A frozen weight has no gradient: it does not matter to the loss.
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.scored]
        now = torch._foreach_mul(self.scored, gradients)
        torch._foreach_abs_(now)
        # The running mean of the window: its k-th step, from 0, has weight 1 / (k + 1).
        torch._foreach_lerp_(self._parts(self.recent), now, 1 / (self.steps % self.window + 1))
        self._hold_biases()

    @torch.no_grad()
    def prune(self, step: PruneStep) -> None:
        if not bool(self.sensitivity.any()):  # no window has ended: all weights cost the same
            if step.final:
                raise StageError(self._no_window(self.steps))
            return
        scores = self._parts(self.scores())
        weights = zip(self.names, scores[: self.first_bias], strict=True)
        costs = {name: step.pattern.costs(score, name) for name, score in weights}
        keep = step.pattern.select(costs, step.level)
        for name, layer in step.layers.items():
            layer.weight.masked_fill_(~keep[name], 0.0)
        biases, cut = scores[self.first_bias :], highest_cost_gone(step.pattern, costs, keep)
        self.biases_held.fill_(1.0)
        if biases and cut is not None:
            self.biases_held.copy_(torch.cat([score >= cut for score in biases]))
            self._hold_biases()
        if step.final or step.level >= step.target > 0:
            step.masks.replace(keep)
        else:
            self.biases_held.fill_(1.0)

    def scores(self) -> Tensor:
        """The costs of all weights and then all biases, (n,): the lowest go first."""
        return self.sensitivity if self.beta2 == 1 else self.sensitivity * self.uncertainty

    def _no_window(self, steps: int) -> str:
        return (
            f"PLATON scores weights over windows of {self.window} optimiser steps, and {steps} are"
            " taken before the last pruning step. Choose a schedule that trains longer before it,"
            " such as schedule=platon, or lower method.window."
        )

    def _parts(self, flat: Tensor) -> list[Tensor]:
        """Views of a vector, shaped like the weights and biases."""
        parts: Sequence[Tensor] = flat.split([p.numel() for p in self.scored])
        return [part.view_as(p) for part, p in zip(parts, self.scored, strict=True)]

    def _hold_biases(self) -> None:
        biases = self.scored[self.first_bias :]
        if biases:
            held = self.biases_held.split([b.numel() for b in biases])
            torch._foreach_mul_(biases, list(held))


def highest_cost_gone(
    pattern: Pattern, costs: dict[str, Tensor], keep: dict[str, Tensor]
) -> Tensor | None:
    """The cut of a ranking of all groups; None if there is none, or nothing has gone."""
    if not pattern.groups_compete:
        return None
    found = [
        torch.where(pattern.grouped(keep[name], name).any(-1), -torch.inf, cost).amax()
        for name, cost in costs.items()
    ]
    cut = torch.stack([one.to(found[0].device) for one in found]).amax()
    return cut if bool(cut.isfinite()) else None
