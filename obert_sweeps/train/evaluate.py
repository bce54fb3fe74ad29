"""A model's logits on a split, and the metrics of a task over its evaluation splits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..task.base import Features, Task
from .batches import Batch, Data, by_length, inputs, to_device
from .step import autocast

TOKENS = 4096  # in a batch, padding included
_MLM_TOKENS = 1024  # its logits are as many times the vocabulary

DISTINCT = "distinct_predictions/"  # and a split: how many different predictions it got

RowLogits = tuple[Tensor, ...]


def evaluate(
    model: nn.Module, task: Task, data: Data, device: torch.device, precision: str = "fp32"
) -> dict[str, float]:
    """Metrics over all evaluation splits, in per cent; nan where undefined.

    Beside them, for tasks that tell, the number of different predictions of each split.
    """
    metrics: dict[str, float] = {}
    for features in data.evaluation:
        found = row_logits(model, task, features, data.pad_token_id, device, precision)
        metrics.update(task.score(features, found))
        if (distinct := task.distinct_predictions(found)) is not None:
            metrics[f"{DISTINCT}{features.split}"] = float(distinct)
    return metrics


@torch.no_grad()
def row_logits(
    model: nn.Module,
    task: Task,
    features: Features,
    pad_token_id: int,
    device: torch.device,
    precision: str = "fp32",
    tokens: int | None = None,
) -> list[RowLogits]:
    """What `task.logits` gives for each row, in the rows' order: float32 on the CPU, unpadded.

    A task with logits too large to keep (MLM's, a vocabulary a token) has a method
    `predictions(outputs, batch)` with what it scores instead, and that is given.
    Rows of similar length are batched, at most `tokens` tokens together (at least one row). Eval
    mode; the model's own mode is put back.
    """
    predictions = getattr(task, "predictions", None)

    def outputs_of(outputs: Any, batch: Batch) -> RowLogits:
        return predictions(outputs, batch) if predictions else task.logits(outputs)

    generator = torch.Generator().manual_seed(0)
    limit = tokens or (_MLM_TOKENS if task.head == "mlm" else TOKENS)
    lengths = [len(row["input_ids"]) for row in features.rows]
    found: list[RowLogits | None] = [None] * len(lengths)
    training = model.training
    model.eval()
    try:
        for rows in by_length(lengths, limit):
            batch = task.collate([features.rows[i] for i in rows], pad_token_id, generator)
            with autocast(device, precision):
                on_device = to_device(batch, device)
                heads = outputs_of(model(**inputs(on_device)), on_device)
            heads = tuple(head.float().cpu() for head in heads)
            for place, row in enumerate(rows):
                found[row] = tuple(
                    _unpadded(head[place], task.head, lengths[row]) for head in heads
                )
    finally:
        model.train(training)
    return [row for row in found if row is not None]


def _unpadded(logits: Tensor, head: str, length: int) -> Tensor:
    return logits[:length] if head in ("span", "mlm") else logits
