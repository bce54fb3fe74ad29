"""The task protocol: rows, model inputs, losses and metrics of one data set.

A task knows no model and no method. Where its rows come from is `source`: `hub` (the published data
set at a pinned revision), `folder` (parquet files, `<folder>/<split>.parquet`) or `generated` (the
demo's grammar).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase


@dataclass
class Features:
    """Model inputs of one split. `rows`: unpadded `input_ids`, `token_type_ids` and labels."""

    split: str
    rows: Sequence[dict[str, Any]]
    references: Any = None  # what `score` needs beside the logits
    notes: dict[str, Any] = field(default_factory=dict)  # e.g. truncated rows

    def __len__(self) -> int:
        return len(self.rows)


class Task(ABC):
    """Keyword-only, typed constructor: it is the schema of the task's configuration leaf."""

    name: str
    head: str  # classification, regression, span or mlm
    num_labels: int
    metrics: tuple[str, ...]  # every metric `score` gives over the evaluation splits
    best_metric: str  # what keep=best chooses by, always higher is better
    correlations: tuple[str, ...] = ()  # metrics that a constant prediction leaves undefined
    evaluation_splits: tuple[str, ...] = ("validation",)
    rows_stay: bool = True  # a training row is the same each time; False where it is drawn anew

    @abstractmethod
    def features(
        self, split: str, tokenizer: PreTrainedTokenizerBase, max_rows: int | None = None
    ) -> Features:
        """Read, check and tokenise a split; `max_rows` takes a fixed, shuffled subset of the data.

        Raises StageError for a missing column or an empty split.
        """

    @abstractmethod
    def collate(
        self, rows: list[dict[str, Any]], pad_token_id: int, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """Pad to the longest row: input_ids, attention_mask, token_type_ids (B, L) and labels."""

    @abstractmethod
    def logits(self, outputs: Any) -> tuple[torch.Tensor, ...]:
        """The tensors that distillation matches, one for each head: (B, labels) or (B, L)."""

    def predictions(self, outputs: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """What `score` wants of each row of a batch; `logits` unless those would be too large."""
        return self.logits(outputs)

    @abstractmethod
    def loss(self, outputs: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The mean hard-label loss of the batch, a scalar with gradient.

        A mean over rows (MLM: over predicted tokens) that does not depend on padding: a batch is
        cut and put together with others' rows as it suits the machine.
        """

    @abstractmethod
    def score(self, features: Features, logits: list[tuple[torch.Tensor, ...]]) -> dict[str, float]:
        """Metrics in per cent (x 100), as the document prints them.

        `logits` holds, for each row of `features` in order, what `predictions()` (or `logits()`)
        gave for it, unpadded.
        An undefined value (correlation of a constant) is nan.
        """

    def distinct_predictions(self, logits: list[tuple[torch.Tensor, ...]]) -> int | None:
        """How many different classes or scores are predicted; None where that says nothing.

        With one for all rows a model has learnt no more than the labels' mean. That is a result,
        its accuracy a number; a correlation of it is undefined, whatever `score` gives for it.
        """
        return None

    def check(self, metrics: dict[str, float]) -> str | None:
        """Why a dense model with these metrics must not be built upon, or None.

        For models that are no cell's result: a language model that has learnt nothing would be
        pruned, distilled from and fine-tuned at great cost, and no table has a place to say so.
        """
        return None
