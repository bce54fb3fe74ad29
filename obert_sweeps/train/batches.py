"""Which rows make which batch. The order follows from seed and step alone, so any step can be made
again without replaying those before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..task.base import Features, Task
from ..task.heads import Batch
from ..task.masking import IGNORED

INPUTS = ("input_ids", "attention_mask", "token_type_ids")  # what a model is called with


def seed_of(*parts: int) -> int:
    """One seed from several, well mixed (splitmix64's finaliser): neighbours are unrelated."""
    mixed = 0
    for part in parts:
        mixed = (mixed + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    return mixed >> 1  # torch takes signed 64-bit seeds


class Batches:
    """Training batches of a task by optimiser step, shuffled anew each epoch, on the CPU.

    Every row comes once an epoch; the last batch of an epoch may be smaller. A batch is padded to
    its own longest row. With `group_by_length` of 2 or more, the rows that so many batches in a row
    would hold are dealt to them by length (see `grouped`); 0 leaves the plain order.
    """

    def __init__(
        self,
        task: Task,
        features: Features,
        pad_token_id: int,
        batch_size: int,
        seed: int,
        group_by_length: int = 0,
    ) -> None:
        self.task = task
        self.rows = features.rows
        self.pad_token_id = pad_token_id
        self.batch_size = batch_size
        self.seed = seed
        self.group_by_length = group_by_length
        self.steps_per_epoch = -(-len(self.rows) // batch_size)
        self._shuffled: tuple[int, list[int]] = (-1, [])

    def indices(self, step: int) -> list[int]:
        """The rows of optimiser step `step`, 0-based over all epochs."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._shuffled[0] != epoch:
            generator = torch.Generator().manual_seed(seed_of(self.seed, epoch))
            order = torch.randperm(len(self.rows), generator=generator).tolist()
            if self.group_by_length > 1:
                order = grouped(
                    order, self._lengths, self.batch_size, self.group_by_length, generator
                )
            self._shuffled = (epoch, order)
        begin = position * self.batch_size
        return self._shuffled[1][begin : begin + self.batch_size]

    @cached_property
    def _lengths(self) -> list[int]:
        return [len(row["input_ids"]) for row in self.rows]

    def tokens(self, step: int) -> int:
        """How many real tokens the batch of a step has."""
        return sum(len(self.rows[i]["input_ids"]) for i in self.indices(step))

    def __call__(self, step: int) -> Batch:
        """The batch of a step; what collating draws at random follows from seed and step too.

        Beside what the task collates, `rows` (B,): which rows they are.
        """
        generator = torch.Generator().manual_seed(seed_of(self.seed, -1, step))
        chosen = self.indices(step)
        batch = self.task.collate([self.rows[i] for i in chosen], self.pad_token_id, generator)
        return {**batch, "rows": torch.tensor(chosen)}


class Data:
    """A task's features, read when first needed: one-shot pruning by magnitude needs no rows.

    `training_rows` gives those of training where they need not be tokenised anew.
    """

    def __init__(
        self,
        task: Task,
        tokenizer: Any,
        batch_size: int,
        seed: int,
        max_train_rows: int | None = None,
        max_eval_rows: int | None = None,
        group_by_length: int = 0,
        training_rows: Callable[[], Features] | None = None,
    ) -> None:
        self.task = task
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.seed = seed
        self.max_train_rows = max_train_rows
        self.max_eval_rows = max_eval_rows
        self.group_by_length = group_by_length
        self.training_rows = training_rows

    @property
    def pad_token_id(self) -> int:
        return int(self.tokenizer.pad_token_id or 0)

    @cached_property
    def train(self) -> Features:
        if self.training_rows is not None:
            return self.training_rows()
        return self.task.features("train", self.tokenizer, self.max_train_rows)

    @cached_property
    def evaluation(self) -> list[Features]:
        return [
            self.task.features(split, self.tokenizer, self.max_eval_rows)
            for split in self.task.evaluation_splits
        ]

    @cached_property
    def batches(self) -> Batches:
        return Batches(
            self.task,
            self.train,
            self.pad_token_id,
            self.batch_size,
            self.seed,
            self.group_by_length,
        )


def grouped(
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


def micro_batches(batch: Batch, rows: int | None, rank: int = 0, size: int = 1) -> Iterator[Batch]:
    """Cut worker `rank`'s share of a batch into parts of at most `rows` rows.

    A share is consecutive rows, of as equal number as can be; none where workers are more than
    rows. Each part is padded to its own longest row only.
    """
    total = len(batch["input_ids"])
    begin, end = total * rank // size, total * (rank + 1) // size
    at_once = rows or total
    if end - begin == total <= at_once:
        yield batch
        return
    for start in range(begin, end, at_once):
        yield rows_of(batch, range(start, min(start + at_once, end)))


def rows_of(batch: Batch, rows: Sequence[int]) -> Batch:
    """These rows of a batch, padded to the longest of them only."""
    width = batch["input_ids"].shape[1]
    places = torch.tensor(rows)
    longest = int(batch["attention_mask"][places].sum(dim=1).max())
    return {
        name: (tensor[:, :longest] if _has_tokens(tensor, width) else tensor)[places]
        for name, tensor in batch.items()
    }


def joined(batches: Sequence[Batch], pad_token_id: int) -> Batch:
    """All rows of several batches as one, padded to the longest of all."""
    longest = max(batch["input_ids"].shape[1] for batch in batches)
    padding = {"input_ids": pad_token_id, "labels": IGNORED}

    def widened(name: str, batch: Batch) -> Tensor:
        tensor, width = batch[name], batch["input_ids"].shape[1]
        if not _has_tokens(tensor, width):
            return tensor
        return F.pad(tensor, (0, longest - width), value=padding.get(name, 0))

    return {name: torch.cat([widened(name, batch) for batch in batches]) for name in batches[0]}


def split(batch: Mapping[str, Any], sizes: Sequence[int]) -> list[Batch]:
    """A batch, or a model's outputs, as parts of so many rows each."""
    parts = {name: t.split(list(sizes)) for name, t in batch.items() if isinstance(t, Tensor)}
    return [{name: part[i] for name, part in parts.items()} for i in range(len(sizes))]


def by_length(
    lengths: Sequence[int], tokens: int, at_most: int | None = None
) -> Iterator[list[int]]:
    """Rows of similar length together, longest first: at most `tokens` tokens when padded and
    `at_most` rows, but at least one."""
    group: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        full = group and lengths[group[0]] * (len(group) + 1) > tokens
        if full or len(group) == at_most:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _has_tokens(tensor: Tensor, width: int) -> bool:
    """Whether a batch's tensor is (rows, tokens), else it is (rows,) or (rows, labels)."""
    return tensor.dim() == 2 and tensor.shape[1] == width


def shares(counts: Sequence[int], whole: int | None = None) -> list[float]:
    """Factors that make parts' means add up to the mean of the whole; parts of nothing get 0.

    `whole` is the count of the whole where `counts` are not all of its parts.
    """
    total = sum(counts) if whole is None else whole
    return [count / total if total else 0.0 for count in counts]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Copy to the device, from pinned memory and without waiting where that is a GPU."""
    if device.type == "cpu":
        return batch
    return {k: v.pin_memory().to(device, non_blocking=True) for k, v in batch.items()}


def inputs(batch: Batch) -> Batch:
    """The part of a batch that a model is called with: labels stay behind."""
    return {name: batch[name] for name in INPUTS if name in batch}
