"""Where the teacher's logits for a batch come from: the teacher, or what it once said of each row.

A teacher is fixed and in eval mode, so its logits for a row never change. Said once, they serve
every student of the task. Rows that are drawn anew each time (MLM's masks) need the teacher itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..task.heads import Batch, Head, Logits
from .forward import inputs


class Teacher(Protocol):
    """Says the logits of a student's batch: `LiveTeacher` or `KnownLogits`."""

    def __call__(self, part: Batch) -> Logits:
        """The logits of a batch's rows, on the batch's device, without gradient."""


class LiveTeacher:
    """Calls the teacher, in eval mode."""

    def __init__(self, model: nn.Module, head: Head) -> None:
        self.model = model.eval()
        self.head = head

    @torch.no_grad()
    def __call__(self, part: Batch) -> Logits:
        return self.head.logits(self.model(**inputs(part)))


class KnownLogits:
    """Looks up what the teacher said of the rows that a batch's `rows` names.

    `heads` (rows, labels) each, where a row has so many logits; else with `begins` (rows,) flat,
    (tokens of all rows,): a row's logits begin there, one a token.
    """

    def __init__(
        self, heads: Sequence[Tensor], begins: Tensor | None, device: torch.device
    ) -> None:
        self.heads = [head.to(device) for head in heads]
        self.begins = None if begins is None else begins.to(device)

    def __call__(self, part: Batch) -> Logits:
        rows = part["rows"]
        if self.begins is None:
            return tuple(head[rows] for head in self.heads)
        padding = part["attention_mask"] == 0
        tokens = torch.arange(padding.shape[1], device=rows.device)
        places = (self.begins[rows][:, None] + tokens).masked_fill(padding, 0)
        return tuple(head[places].masked_fill(padding, 0.0) for head in self.heads)


def save_logits(file: Path, logits: Sequence[Logits], per_token: bool, identity: str) -> None:
    """Write the logits of all rows, in their order, float32. `identity` says whose of which rows.

    With `per_token` a row's are (its tokens,), else (labels,).
    """
    heads = [[row[i] for row in logits] for i in range(len(logits[0]))]
    tensors = {
        f"head_{i}": torch.cat(head) if per_token else torch.stack(head)
        for i, head in enumerate(heads)
    }
    if per_token:
        lengths = torch.tensor([0, *(len(row[0]) for row in logits[:-1])])
        tensors["begins"] = lengths.cumsum(0)
    save_file(tensors, file, metadata={"identity": identity})


def load_logits(file: Path, device: torch.device) -> KnownLogits:
    """What `save_logits` wrote; on a CPU it stays in the file, which is mapped into memory."""
    tensors = load_file(file)
    begins = tensors.pop("begins", None)
    return KnownLogits([tensors[name] for name in sorted(tensors)], begins, device)


def identity_in(file: Path) -> str | None:
    """The `identity` that `save_logits` was given."""
    with safe_open(file, framework="pt") as content:
        return (content.metadata() or {}).get("identity")


def rows_digest(rows: Sequence[dict[str, Any]]) -> str:
    """SHA-256 of what a model is given of the rows, in their order."""
    digest = hashlib.sha256()
    for name in ("input_ids", "token_type_ids"):
        for row in rows:
            digest.update(np.asarray(row[name], dtype=np.int32).tobytes())
            digest.update(b"|")
    return digest.hexdigest()
