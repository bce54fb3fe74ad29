"""Which values are labels: classes or scores. No torch here: a plan reads them too."""

from __future__ import annotations

import math
from typing import Any


def class_of(value: Any, count: int) -> int | None:
    """The class 0 .. count - 1 that a value is, 2.0 too; None if it is none."""
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole and 0 <= value < count else None


def score_of(value: Any) -> float | None:
    """The real number that a value is; None if it is none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def label_of(value: Any, num_labels: int) -> int | float | None:
    """A class, or with one label a score; None if the value is neither."""
    return score_of(value) if num_labels == 1 else class_of(value, num_labels)


def wanted(num_labels: int) -> str:
    return "a finite score" if num_labels == 1 else f"0 to {num_labels - 1}"


def described(value: Any) -> str:
    """A value that is no label, as a message says it."""
    if value is None or value != value:
        return f"{value} (none is there)"
    if isinstance(value, str):
        return f"the text {value!r}"
    unlabelled = " (unlabelled, as in GLUE's test splits)" if value == -1 else ""
    return f"{value}{unlabelled}"
