"""Rows of a split as a few arrays: a tenth of the memory of lists, and fit for a mapped file."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from .base import Features


class ArrayRows(Sequence[dict[str, Any]]):
    """The rows of `Features`: `input_ids` and `token_type_ids` as arrays, `labels` as they were.

    `begins` (rows + 1,): where a row's tokens begin among `ids` and `segments`, which hold those of
    all rows one after another. `labels` (rows,) or (rows, labels), or None for rows without.
    """

    def __init__(self, ids: Any, segments: Any, begins: Any, labels: Any = None) -> None:
        self.ids, self.segments, self.begins, self.labels = ids, segments, begins, labels

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> ArrayRows:
        """Rows without their labels: int32 ids and int8 segments, 5 bytes a token.

        Each row may be let go before the next is asked for.
        """
        ids, segments, begins = array("i"), array("b"), array("q", [0])
        for row in rows:
            ids.extend(row["input_ids"])
            segments.extend(row["token_type_ids"])
            begins.append(len(ids))
        return cls(np.asarray(ids), np.asarray(segments), np.asarray(begins))

    def __len__(self) -> int:
        return len(self.begins) - 1

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(f"row {place} of {len(self)}")
        place %= len(self)
        span = slice(self.begins[place], self.begins[place + 1])
        row = {"input_ids": self.ids[span], "token_type_ids": self.segments[span]}
        return row if self.labels is None else {**row, "labels": self.labels[place].tolist()}


def save_rows(file: Path, features: Features) -> None:
    """Write the rows of a split, with their notes."""
    rows = ArrayRows.of(features.rows)
    labels = np.asarray([row["labels"] for row in features.rows])  # int64 or float64, as Python's
    arrays = {"ids": rows.ids, "segments": rows.segments, "begins": rows.begins, "labels": labels}
    tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
    save_file(tensors, file, metadata={"notes": json.dumps(features.notes)})


def load_rows(file: Path, split: str) -> Features:
    """What `save_rows` wrote, mapped into memory; without references, which training needs not."""
    arrays = {name: tensor.numpy() for name, tensor in load_file(file).items()}
    with safe_open(file, framework="pt") as content:
        notes = json.loads(content.metadata()["notes"])
    return Features(split, ArrayRows(**arrays), notes=notes)
