"""Gradients of single mini-batches, for methods that estimate a Fisher matrix."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn

from ..task.base import Task
from .batches import Batches, Data, counted, inputs, micro_batches, seed_of, shares, to_device

_PURPOSE = 7  # keeps the order of these rows apart from that of training


class GradientSource:
    """Called, it yields gradients as `method.base.Gradients` says.

    Each is of the mean hard-label task loss of a mini-batch (never of the distillation loss), in
    eval mode, in float32 without autocast, of the prunable weights alone. Rows come shuffled from
    the training data, as often as needed, in an order fixed by `seed` and `draw`. Neither the
    model's mode, nor gradients it holds, nor random states are changed for those who come after.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, nn.Linear],
        task: Task,
        data: Data,
        *,
        device: torch.device,
        seed: int,
        micro_batch: int | None = None,
    ) -> None:
        self.model = model
        self.layers = layers
        self.task = task
        self.data = data
        self.device = device
        self.seed = seed
        self.micro_batch = micro_batch

    def __call__(
        self,
        count: int,
        batch_size: int,
        *,
        draw: int = 0,
        layers: Collection[str] | None = None,
    ) -> Iterator[tuple[str, Tensor]]:
        seed = seed_of(self.seed, _PURPOSE, draw)
        batches = Batches(self.task, self.data.train, self.data.pad_token_id, batch_size, seed)
        names = [name for name in self.layers if layers is None or name in layers]
        weights = [self.layers[name].weight for name in names]
        fixed = [weight for weight in weights if not weight.requires_grad]
        training = self.model.training
        random = torch.get_rng_state()
        self.model.eval()
        for weight in fixed:  # frozen weights may still be pruned
            weight.requires_grad_(True)
        try:
            for step in range(count):
                for name, gradient in zip(
                    names, self._gradient(batches, step, weights), strict=True
                ):
                    yield name, gradient.unsqueeze(0)
        finally:
            self.model.train(training)
            torch.set_rng_state(random)
            for weight in fixed:
                weight.requires_grad_(False)

    @torch.enable_grad()
    def _gradient(self, batches: Batches, step: int, weights: list[Tensor]) -> list[Tensor]:
        parts = list(micro_batches(self.task.head, batches(step), self.micro_batch))
        by_label = shares([counted(self.task.head, part) for part in parts])
        total = [torch.zeros_like(weight) for weight in weights] if not any(by_label) else []
        for part, share in zip(parts, by_label, strict=True):
            if not share:
                continue
            part = to_device(part, self.device)
            loss = self.task.loss(self.model(**inputs(part)), part) * share
            found = torch.autograd.grad(loss, weights)
            total = [a.add_(b) for a, b in zip(total, found, strict=True)] if total else list(found)
        return total
