"""The task protocol: rows, model inputs, losses and metrics of one data set.

A task knows no model and no method. Where its rows come from is `source`: `hub` (the published data
set at a pinned revision), `folder` (parquet files, `<folder>/<split>.parquet`) or `generated` (the
demo's grammar).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from .heads import Batch, Head, Logits


@dataclass
class Features:
    """Model inputs of one split. `rows`: unpadded `input_ids`, `token_type_ids` and labels."""

    split: str
    rows: Sequence[dict[str, Any]]
    references: Any = None  # what `score` needs beside the logits
    notes: dict[str, Any] = field(default_factory=dict)  # counts, for `Task.remark`

    def __len__(self) -> int:
        return len(self.rows)


class Task(ABC):
    """Keyword-only, typed constructor: it is the schema of the task's configuration leaf.

    Keys that it takes and does not keep (`data`, `official_rows`) are what plans are made from.
    """

    name: str
    head: Head
    num_labels: int
    max_length: int  # tokens of a row, at most
    metrics: tuple[str, ...]  # every metric `score` gives over the evaluation splits
    best_metric: str  # what keep=best chooses by, always higher is better
    correlations: tuple[str, ...] = ()  # metrics that a constant prediction leaves undefined
    evaluation_splits: tuple[str, ...] = ("validation",)
    rows_stay: bool = True  # a training row is the same each time; False where it is drawn anew

    def make_tokenizer(self) -> PreTrainedTokenizerBase | None:
        """A tokenizer for an encoder that is made from nothing; None if the task makes none."""
        return None

    @abstractmethod
    def features(
        self, split: str, tokenizer: PreTrainedTokenizerBase, max_rows: int | None = None
    ) -> Features:
        """Read, check and tokenise a split; `max_rows` takes a fixed, shuffled subset of the data.

        Raises StageError for a missing column or an empty split.
        """

    def remark(self, notes: Mapping[str, Any]) -> str | None:
        """What a reader of the log should know of training rows with these `notes`, if anything."""
        return None

    @abstractmethod
    def collate(
        self, rows: list[dict[str, Any]], pad_token_id: int, generator: torch.Generator
    ) -> Batch:
        """Pad to the longest row: input_ids, attention_mask, token_type_ids (B, L) and labels."""

    def predictions(self, outputs: Any, batch: Batch) -> Logits:
        """What `score` wants of each row of a batch; logits unless those would be too large."""
        return self.head.logits(outputs)

    @abstractmethod
    def score(self, features: Features, logits: list[Logits]) -> dict[str, float]:
        """Metrics in per cent (x 100), as the document prints them.

        `logits` holds, for each row of `features` in order, what `predictions()` gave for it,
        unpadded. An undefined value (correlation of a constant) is nan.
        """

    def distinct_predictions(self, logits: list[Logits]) -> int | None:
        """How many different classes or scores are predicted; None where that says nothing.

        With one for all rows a model has learnt no more than the labels' mean. That is a result,
        its accuracy a number; a correlation of it is undefined, whatever `score` gives for it.
        """
        return None

    def check(self, metrics: Mapping[str, float | None]) -> str | None:
        """Why a dense model with these metrics (None: undefined) must not be built upon, or None.

        For models that are no cell's result: a language model that has learnt nothing would be
        pruned, distilled from and fine-tuned at great cost, and no table has a place to say so.
        """
        return None
