"""Rows of different lengths as one rectangular batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def padded(rows: list[list[int]], value: int) -> Tensor:
    """Rows of integers as (B, L), L the longest row, filled up with `value`."""
    batch = torch.full((len(rows), max(map(len, rows))), value, dtype=torch.long)
    for place, row in enumerate(rows):
        batch[place, : len(row)] = torch.tensor(row, dtype=torch.long)
    return batch


def model_inputs(rows: list[dict[str, Any]], pad_token_id: int) -> dict[str, Tensor]:
    """input_ids, attention_mask (1 = a token) and token_type_ids, each (B, L) int64."""
    return {
        "input_ids": padded([row["input_ids"] for row in rows], pad_token_id),
        "attention_mask": padded([[1] * len(row["input_ids"]) for row in rows], 0),
        "token_type_ids": padded([row["token_type_ids"] for row in rows], 0),
    }
