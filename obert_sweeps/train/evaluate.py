"""A model's logits on a split, and the metrics of a task over its evaluation splits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..task.base import Features
from ..task.heads import Batch, Logits
from .data import Data
from .forward import Setup, inputs, to_device
from .parallel import share_rows
from .parts import by_length

DISTINCT = "distinct_predictions/"  # and a split: how many different predictions it got


def evaluate(model: nn.Module, data: Data, setup: Setup) -> dict[str, float]:
    """Metrics over all evaluation splits, in per cent; nan where undefined.

    Beside them, for tasks that tell, the number of different predictions of each split.
    """
    metrics: dict[str, float] = {}
    for features in data.evaluation:
        found = row_logits(model, data, features, setup)
        metrics.update(data.task.score(features, found))
        if (distinct := data.task.distinct_predictions(found)) is not None:
            metrics[f"{DISTINCT}{features.split}"] = float(distinct)
    return metrics


@torch.no_grad()
def row_logits(
    model: nn.Module,
    data: Data,
    features: Features,
    setup: Setup,
    tokens: int | None = None,
    read: Callable[[Any, Batch], Logits] | None = None,
) -> list[Logits]:
    """What `read(outputs, batch)` gives for each row, in their order: float32 on the CPU, unpadded.

    Without `read` that is `task.predictions`: the logits, unless those would be too large to keep
    (MLM's, a vocabulary a token).
    Rows of similar length are batched, at most `tokens` tokens together (at least one row); how
    many suits the head unless they are given. The workers take the batches in turn, and all get all
    rows. Eval mode; the model's own mode is put back.
    """
    task, group = data.task, setup.group
    read = read or task.predictions
    lengths = [len(row["input_ids"]) for row in features.rows]
    batches = list(by_length(lengths, tokens or task.head.pass_tokens))
    found: list[Logits | None] = [None] * len(lengths)
    training = model.training
    model.eval()
    try:
        for number in range(group.rank, len(batches), group.size):
            rows = batches[number]
            generator = torch.Generator().manual_seed(number)
            given = [features.rows[i] for i in rows]
            batch = task.collate(given, data.pad_token_id, generator)
            with setup.autocast():
                on_device = to_device(batch, setup.device)
                heads = read(model(**inputs(on_device)), on_device)
            heads = tuple(head.float().cpu() for head in heads)
            for place, row in enumerate(rows):
                kept = slice(lengths[row]) if task.head.per_token else ...
                found[row] = tuple(head[place][kept] for head in heads)
    finally:
        model.train(training)
    if group.size > 1:
        turns = [batches[rank :: group.size] for rank in range(group.size)]
        return share_rows(found, [[row for rows in turn for row in rows] for turn in turns], group)
    return [row for row in found if row is not None]
