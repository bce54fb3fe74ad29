"""Which rows make which batch. The order follows from seed and step alone, so any step can be made
again without replaying those before it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch

from ..task.heads import Batch
from .data import Data
from .seeds import seed_of


class Batches:
    """Batches of the training rows by optimiser step, shuffled anew each epoch, on the CPU.

    Every row comes once an epoch; the last batch of an epoch may be smaller. A batch is padded to
    its own longest row. With `group_by_length` of 2 or more, the rows that so many batches in a row
    would hold are dealt to them by length (see `dealt_by_length`); 0 leaves the plain order.
    """

    def __init__(self, data: Data, batch_size: int, seed: int, group_by_length: int = 0) -> None:
        self.data = data
        self.batch_size = batch_size
        self.seed = seed
        self.group_by_length = group_by_length
        self._shuffled: tuple[int, list[int]] = (-1, [])

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.data.train) // self.batch_size)

    def indices(self, step: int) -> list[int]:
        """The rows of optimiser step `step`, 0-based over all epochs."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._shuffled[0] != epoch:
            generator = torch.Generator().manual_seed(seed_of(self.seed, epoch))
            order = torch.randperm(len(self.data.train), generator=generator).tolist()
            if self.group_by_length > 1:
                order = dealt_by_length(
                    order, self._lengths, self.batch_size, self.group_by_length, generator
                )
            self._shuffled = (epoch, order)
        begin = position * self.batch_size
        return self._shuffled[1][begin : begin + self.batch_size]

    @cached_property
    def _lengths(self) -> list[int]:
        return [len(row["input_ids"]) for row in self.data.train.rows]

    def tokens(self, step: int) -> int:
        """How many real tokens the batch of a step has."""
        return sum(len(self.data.train.rows[i]["input_ids"]) for i in self.indices(step))

    def __call__(self, step: int) -> Batch:
        """The batch of a step; what collating draws at random follows from seed and step too.

        Beside what the task collates, `rows` (B,): which rows they are.
        """
        generator = torch.Generator().manual_seed(seed_of(self.seed, -1, step))
        data, chosen = self.data, self.indices(step)
        rows = [data.train.rows[i] for i in chosen]
        batch = data.task.collate(rows, data.pad_token_id, generator)
        return {**batch, "rows": torch.tensor(chosen)}


def dealt_by_length(
    order: Sequence[int],
    lengths: Sequence[int],
    batch_size: int,
    window: int,
    generator: torch.Generator,
) -> list[int]:
    """A shuffled order of rows whose batches hold rows of similar length.

    The rows of each `window` whole batches are sorted by length and cut into batches, which then
    come in an order drawn anew. A last, smaller batch keeps its rows, and its place at the end.
    """
    whole = len(order) // batch_size * batch_size
    found: list[int] = []
    for begin in range(0, whole, window * batch_size):
        rows = sorted(
            order[begin : min(begin + window * batch_size, whole)], key=lengths.__getitem__
        )
        batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
        for place in torch.randperm(len(batches), generator=generator).tolist():
            found += batches[place]
    return [*found, *order[whole:]]
