"""Metrics of a whole split, in per cent, by torchmetrics. An undefined value is nan."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

CLASSIFICATION = ("accuracy", "f1", "mcc")
REGRESSION = ("pearson", "spearman")
CORRELATIONS = ("mcc", *REGRESSION)  # undefined (0 / 0) where all predictions are the same


def classification_metric(name: str, predicted: Tensor, labels: Tensor, num_labels: int) -> float:
    """accuracy, f1 (of class 1, for two classes) or mcc; `predicted` and `labels` (N,) int64.

    The Matthews correlation of a constant prediction is 0 (its usual convention).
    """
    from torchmetrics.functional.classification import (
        binary_f1_score,
        multiclass_accuracy,
        multiclass_matthews_corrcoef,
    )

    if name == "accuracy":
        value = multiclass_accuracy(predicted, labels, num_labels, average="micro")
    elif name == "f1":
        value = binary_f1_score(predicted, labels)
    elif _constant(predicted) or _constant(labels):
        return 0.0  # torchmetrics divides by a small number there, and gives anything down to -0.6
    else:
        value = multiclass_matthews_corrcoef(predicted, labels, num_labels)
    return 100.0 * float(value)


def correlation(name: str, predicted: Tensor, labels: Tensor) -> float:
    """pearson or spearman of (N,) floats; nan where either side is constant or not finite."""
    from torchmetrics.functional.regression import pearson_corrcoef, spearman_corrcoef

    functions: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "pearson": pearson_corrcoef,
        "spearman": spearman_corrcoef,
    }
    predicted, labels = predicted.double(), labels.double()
    if len(labels) < 2 or _constant(predicted) or _constant(labels):
        return math.nan
    if not torch.isfinite(predicted).all():
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of small variances, which are meant here
        return 100.0 * float(functions[name](predicted, labels))


def _constant(values: Tensor) -> bool:
    return bool((values == values[0]).all())
