"""What a GLUE task's labels are: classes or scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .heads import Classification, Regression
from .label_values import class_of, score_of, wanted
from .metrics import CLASSIFICATION, REGRESSION, classification_metric, correlation


class Classes:
    """Whole numbers from 0, `count` of them."""

    head = Classification()
    metrics = CLASSIFICATION
    dtype = torch.int64

    def __init__(self, count: int) -> None:
        self.count = count
        self.wanted = wanted(count)

    def read(self, value: Any) -> int | None:
        """The label; None if it is none."""
        return class_of(value, self.count)

    def predicted(self, logits: Tensor) -> Tensor:
        """(rows,) of (rows, classes)."""
        return logits.argmax(-1)

    def metric(self, name: str, predicted: Tensor, labels: Tensor) -> float:
        return classification_metric(name, predicted, labels, self.count)


class Scores:
    """Real numbers."""

    head = Regression()
    metrics = REGRESSION
    dtype = torch.float32
    wanted = wanted(1)

    def read(self, value: Any) -> float | None:
        """The label; None if it is none."""
        return score_of(value)

    def predicted(self, logits: Tensor) -> Tensor:
        """(rows,) of (rows, 1)."""
        return logits.squeeze(-1)

    def metric(self, name: str, predicted: Tensor, labels: Tensor) -> float:
        return correlation(name, predicted, labels)
