"""Gradients of single mini-batches, for methods that estimate a Fisher matrix."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from ..method.base import AT_ONCE
from ..task.heads import Batch
from .batches import Batches
from .data import Data
from .forward import Setup, inputs, to_device
from .grouped import GroupedGradients, Uses, uses_of
from .parts import by_length, joined, rows_of, split
from .seeds import seed_of

_PURPOSE = 7  # keeps the order of these rows apart from that of training

# Measured on one core (docs/results/2026-11-26-gradients.md); a GPU wants more at once.
_PASS_TOKENS = {"cpu": 512, "cuda": 4096}  # in a pass, padding included
_HELD_BYTES = {"cpu": 2**30, "cuda": 2**32}  # inputs and output gradients between passes, about


class GradientSource:
    """Called, it yields gradients as `method.base.Gradients` says.

    Each is of the mean hard-label task loss of a mini-batch (never of the distillation loss), in
    eval mode, in float32 without autocast, of the prunable weights alone. Rows come shuffled from
    the training data, as often as needed, in an order fixed by `seed` and `draw`; worker r of n
    takes mini-batches r, r + n, r + 2n and so on. Neither the model's mode, nor gradients it holds,
    nor random states are changed for those who come after.

    The rows of as many mini-batches as memory holds go through the model by length, whichever
    mini-batch they are of, so that hardly any padding does; at most `micro_batch` in a pass. A
    mini-batch's gradient is that of a pass of its own, to rounding.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, nn.Linear],
        data: Data,
        setup: Setup,
        *,
        seed: int,
        micro_batch: int | None = None,
    ) -> None:
        self.model = model
        self.layers = layers
        self.data = data
        self.head = data.task.head
        self.device = setup.device
        self.group = setup.group
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
        batches = Batches(self.data, batch_size, seed)
        chosen = {
            name: layer for name, layer in self.layers.items() if layers is None or name in layers
        }
        training = self.model.training
        random = torch.get_rng_state()
        self.model.eval()
        try:
            for steps in self._groups(batches, count, chosen):
                found = [batches(step) for step in steps if step < count]
                gradients = self._run(found, len(steps), chosen)
                for name, layer in chosen.items():
                    yield name, gradients.take(name, layer.weight)
        finally:
            self.model.train(training)
            torch.set_rng_state(random)

    def held(self, batch_size: int) -> int:
        """Bytes held beside the tensor at hand, at most, for mini-batches of so many rows.

        These are inputs and output gradients between passes, and the memory of tensors of other
        sizes. Layers that share their inputs are not told apart, which makes up for padding and
        for the packed copies of one layer's.
        """
        longest = max(len(row["input_ids"]) for row in self.data.train.rows)
        alone = batch_size * longest * _bytes_a_token(self.layers)
        sizes = {layer.weight.numel() for layer in self.layers.values()}
        between = max(alone, min(AT_ONCE * alone, _HELD_BYTES[self.device.type]))
        return between + 4 * AT_ONCE * (sum(sizes) - max(sizes))

    def _groups(
        self, batches: Batches, count: int, layers: Mapping[str, nn.Linear]
    ) -> Iterator[list[int]]:
        """This worker's mini-batches, as many together as memory holds.

        Each worker reckons with the rows of all of them, and so comes to the same sizes of groups
        without asking. Where others still have a mini-batch and this one none, the number is
        `count` or more.
        """
        room = _HELD_BYTES[self.device.type] // max(_bytes_a_token(layers), 1)
        group: list[int] = []
        held = 0
        for first in range(0, count, self.group.size):
            together = range(first, min(first + self.group.size, count))
            tokens = max(batches.tokens(step) for step in together)
            if group and (held + tokens > room or len(group) == AT_ONCE):
                yield group
                group, held = [], 0
            group.append(first + self.group.rank)
            held += tokens
        if group:
            yield group

    def _run(
        self, batches: Sequence[Batch], count: int, layers: Mapping[str, nn.Linear]
    ) -> GroupedGradients:
        """Forward and backward over the rows of some mini-batches; the last of `count` may lack."""
        if not batches:
            return GroupedGradients([], [], count)
        whole = joined(batches, self.data.pad_token_id)
        owners = [i for i, batch in enumerate(batches) for _ in batch["input_ids"]]
        lengths = whole["attention_mask"].sum(dim=1).tolist()
        totals = [self.head.counted(batch) for batch in batches]
        gradients = GroupedGradients(owners, lengths, count)
        for rows in by_length(lengths, _PASS_TOKENS[self.device.type], self.micro_batch):
            rows.sort()  # so that those of a mini-batch stand together
            part = rows_of(whole, rows)
            uses = self._pass(part, [owners[row] for row in rows], totals, layers)
            gradients.add(rows, part["input_ids"].shape[1], uses)
        return gradients

    def _pass(
        self,
        part: Batch,
        owners: Sequence[int],
        totals: Sequence[int],
        layers: Mapping[str, nn.Linear],
    ) -> Uses:
        """Of the sum of the mini-batches' mean losses, the part that these rows have in it."""
        runs = [(owner, len(list(run))) for owner, run in groupby(owners)]
        sizes = [size for _, size in runs]
        shares = [
            self.head.counted(piece) / max(totals[owner], 1)
            for piece, (owner, _) in zip(split(part, sizes), runs, strict=True)
        ]
        if not any(shares):
            return {name: [] for name in layers}
        part = to_device(part, self.device)

        def loss() -> Tensor:
            outputs = self.model(**inputs(part))
            pieces = zip(split(outputs, sizes), split(part, sizes), shares, strict=True)
            losses = [
                share * self.head.loss(type(outputs)(**piece), rows)
                for piece, rows, share in pieces
                if share
            ]
            return torch.stack(losses).sum()

        with torch.autocast(self.device.type, enabled=False):
            return uses_of(self.model, layers, loss)


def _bytes_a_token(layers: Mapping[str, nn.Linear]) -> int:
    """Of the layers' inputs and output gradients."""
    return sum(4 * (layer.in_features + layer.out_features) for layer in layers.values())
