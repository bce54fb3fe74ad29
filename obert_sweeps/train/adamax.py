"""Adamax as PLATON's authors run it (PLATON repository, GLUE/module/bert_optim.py).

It is not torch's: epsilon is 1e-6 instead of 1e-8, which matters for gradients of that size; the
average of the gradients is not corrected for its start at zero; and the decay is decoupled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Adamax(torch.optim.Optimizer):
    """p <- p - lr (m / (u + eps) + weight_decay p), for the gradient g of each step, with

    m <- b1 m + (1 - b1) g and u <- max(b2 u, |g| + eps), both zero at first.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Update all parameters that have a gradient."""
        if closure is not None:
            raise ValueError("this optimiser takes no closure")
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            if trained:
                self._update(group, trained)

    def _update(self, group: dict[str, Any], trained: list[Tensor]) -> None:
        for parameter in trained:
            if not self.state[parameter]:
                self.state[parameter]["exp_avg"] = torch.zeros_like(parameter)
                self.state[parameter]["exp_inf"] = torch.zeros_like(parameter)
        grads = [p.grad for p in trained]
        averages = [self.state[p]["exp_avg"] for p in trained]
        largest = [self.state[p]["exp_inf"] for p in trained]
        first, second = group["betas"]

        torch._foreach_lerp_(averages, grads, 1 - first)
        sizes = torch._foreach_abs(grads)
        torch._foreach_add_(sizes, group["eps"])
        torch._foreach_mul_(largest, second)
        torch._foreach_maximum_(largest, sizes)

        if group["weight_decay"]:
            torch._foreach_mul_(trained, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_copy_(sizes, largest)  # their memory serves for the divisors
        torch._foreach_add_(sizes, group["eps"])
        torch._foreach_addcdiv_(trained, averages, sizes, value=-group["lr"])
