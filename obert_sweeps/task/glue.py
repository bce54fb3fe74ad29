"""The GLUE tasks: one sentence or two, a class or a score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from ..schema import RequestError, StageError
from .base import Features, Task
from .heads import Batch, Logits
from .label_values import described
from .labels import Classes, Scores
from .metrics import CORRELATIONS
from .padding import model_inputs
from .sources import row_source

MISMATCHED = "_mm"  # a metric of this ending belongs to the split of that ending
_SPLIT_ENDING = "_mismatched"


class Glue(Task):
    """A task of classification (`num_labels` of 2 or more) or regression (1, squared error).

    `text_columns`: one or two columns, the second goes into the second segment. `hub_splits`: our
    split names to the hub's, where they differ. `official_rows`: rows of the published splits, for
    estimates of cost before the data are read. Raises RequestError for values that make no task.
    """

    def __init__(
        self,
        *,
        name: str,
        hub: str | None,
        hub_config: str | None,
        revision: str | None,
        hub_splits: Mapping[str, str],
        data: str,
        source: str,
        folder: str | None,
        text_columns: list[str],
        num_labels: int,
        metrics: list[str],
        best_metric: str,
        max_length: int,
        evaluation_splits: list[str],
        official_rows: Mapping[str, int],
        generator: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.text_columns = list(text_columns)
        self.num_labels = num_labels
        self.labels: Classes | Scores = Scores() if num_labels == 1 else Classes(num_labels)
        self.head = self.labels.head
        self.metrics = tuple(metrics)
        self.correlations = tuple(name for name in metrics if name in CORRELATIONS)
        self.best_metric = best_metric
        self.max_length = max_length
        self.evaluation_splits = tuple(evaluation_splits)
        self._check_values()
        self.source = row_source(
            task=name,
            source=source,
            hub=hub,
            hub_config=hub_config,
            revision=revision,
            folder=folder,
            generator=generator,
            hub_splits=hub_splits,
        )

    def features(
        self, split: str, tokenizer: PreTrainedTokenizerBase, max_rows: int | None = None
    ) -> Features:
        rows = self.source.rows(split, [*self.text_columns, "label"], max_rows)
        labels = [self._label(row["label"], place, split) for place, row in enumerate(rows)]
        texts = [self._texts(rows, column, split) for column in self.text_columns]
        encoded = tokenizer(
            *texts, truncation=True, max_length=self.max_length, return_token_type_ids=True
        )
        ids, segments = encoded["input_ids"], encoded["token_type_ids"]
        features = [
            {"input_ids": i, "token_type_ids": t, "labels": label}
            for i, t, label in zip(ids, segments, labels, strict=True)
        ]
        full = sum(len(i) >= self.max_length for i in ids)
        return Features(split, features, references=labels, notes={"at_max_length": full})

    def remark(self, notes: Mapping[str, Any]) -> str | None:
        full = notes.get("at_max_length", 0)
        return f"rows of {self.max_length} tokens, what is longer is cut: {full}" if full else None

    def collate(
        self, rows: list[dict[str, Any]], pad_token_id: int, generator: torch.Generator
    ) -> Batch:
        """`labels` is (B,): int64 classes or float32 scores."""
        batch = model_inputs(rows, pad_token_id)
        labels = [row["labels"] for row in rows]
        batch["labels"] = torch.tensor(labels, dtype=self.labels.dtype)
        return batch

    def score(self, features: Features, logits: list[Logits]) -> dict[str, float]:
        outputs = torch.stack([row[0] for row in logits]).float()
        mismatched = features.split.endswith(_SPLIT_ENDING)
        names = [name for name in self.metrics if name.endswith(MISMATCHED) == mismatched]
        if not torch.isfinite(outputs).all():
            return dict.fromkeys(names, math.nan)
        predicted, labels = self.labels.predicted(outputs), torch.tensor(features.references)
        return {
            name: self.labels.metric(name.removesuffix(MISMATCHED), predicted, labels)
            for name in names
        }

    def distinct_predictions(self, logits: list[Logits]) -> int:
        return len(self.labels.predicted(torch.stack([row[0] for row in logits])).unique())

    def _label(self, value: Any, place: int, split: str) -> int | float:
        if (label := self.labels.read(value)) is not None:
            return label
        raise StageError(
            f"task {self.name}, split {split}: the label of row {place} is {described(value)}, not"
            f" {self.labels.wanted}. Name a labelled split or other data: data_root=DIR"
        )

    def _texts(self, rows: list[dict[str, Any]], column: str, split: str) -> list[str]:
        texts = [row[column] for row in rows]
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise StageError(
                    f"task {self.name}, split {split}: {column} of row {place} is not text "
                    f"({text!r}). Mend or drop the row, or name other data: data_root=DIR"
                )
        return texts

    def _check_values(self) -> None:
        known = self.labels.metrics
        faults = [
            f"the metric {name} is not one of {', '.join(known)} (with {MISMATCHED} for a"
            " mismatched split)"
            for name in self.metrics
            if name.removesuffix(MISMATCHED) not in known
        ]
        if self.num_labels > 2 and any(m.removesuffix(MISMATCHED) == "f1" for m in self.metrics):
            faults.append(
                f"the metric f1 is that of one class of two, and num_labels is {self.num_labels}:"
                " leave it out, for instance task.metrics=[accuracy] task.best_metric=accuracy"
            )
        if self.num_labels < 1:
            faults.append(f"num_labels={self.num_labels} is below 1")
        if self.best_metric not in self.metrics:
            faults.append(f"best_metric={self.best_metric} is not among the metrics")
        if len(self.text_columns) not in (1, 2):
            faults.append(f"text_columns={self.text_columns} is neither one column nor two")
        if self.max_length < 8:
            faults.append(f"max_length={self.max_length} is below 8 tokens")
        if not self.evaluation_splits:
            faults.append("evaluation_splits is empty")
        if faults:
            raise RequestError(f"task {self.name}: {'; '.join(faults)}. Use task.KEY=VALUE.")
