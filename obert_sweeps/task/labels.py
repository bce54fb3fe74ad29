"""What a GLUE task's labels are: classes or scores."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .heads import Classification, Regression
from .metrics import CLASSIFICATION, REGRESSION, classification_metric, correlation


class Classes:
    """Whole numbers from 0, `count` of them."""

    head = Classification()
    metrics = CLASSIFICATION
    dtype = torch.int64

    def __init__(self, count: int) -> None:
        self.count = count
        self.wanted = f"0 to {count - 1}"

    def read(self, value: Any) -> int | None:
        """The label; None if it is none."""
        return int(value) if isinstance(value, int) and 0 <= value < self.count else None

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
    wanted = "a finite score"

    def read(self, value: Any) -> float | None:
        """The label; None if it is none."""
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    def predicted(self, logits: Tensor) -> Tensor:
        """(rows,) of (rows, 1)."""
        return logits.squeeze(-1)

    def metric(self, name: str, predicted: Tensor, labels: Tensor) -> float:
        return correlation(name, predicted, labels)
