"""Rows of different lengths as one rectangular batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Rows of integers as (B, L), L the longest row, filled up with `value`."""
    batch = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for place, row in enumerate(rows):
        batch[place, : len(row)] = row
    return torch.from_numpy(batch)


def model_inputs(rows: list[dict[str, Any]], pad_token_id: int) -> dict[str, Tensor]:
    """input_ids, attention_mask (1 = a token) and token_type_ids, each (B, L) int64."""
    ids = padded([row["input_ids"] for row in rows], pad_token_id)
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    return {
        "input_ids": ids,
        "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long(),
        "token_type_ids": padded([row["token_type_ids"] for row in rows], 0),
    }
