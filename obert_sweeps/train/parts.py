"""Batches cut into parts, parts put together, and what each weighs in the whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..task.heads import Batch
from ..task.masking import IGNORED


def micro_batches(batch: Batch, rows: int | None, rank: int = 0, size: int = 1) -> Iterator[Batch]:
    """Cut worker `rank`'s share of a batch into parts of at most `rows` rows.

    A share is consecutive rows, of as equal number as can be; none where workers are more than
    rows. Each part is padded to its own longest row only. `rows` None: the whole share in one part.
    Raises ValueError for fewer rows than one, of which there would be no part to learn from.
    """
    if rows is not None and rows < 1:
        raise ValueError(f"a batch cannot be cut into parts of {rows} rows")
    total = len(batch["input_ids"])
    begin, end = total * rank // size, total * (rank + 1) // size
    at_once = total if rows is None else rows
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
