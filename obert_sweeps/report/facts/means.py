"""Means and deviations over seeds and tasks, where some values may be missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev


def means(rows: Iterable[Mapping[str, float | None]]) -> dict[str, float]:
    """Metric -> mean over the rows that have it."""
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                columns.setdefault(name, []).append(value)
    return {name: fmean(column) for name, column in columns.items()}


def mean_of_all(values: Iterable[float | None]) -> float | None:
    """None as soon as one is missing: a mean over fewer would not compare. None of none, too."""
    known = list(values)
    return fmean(v for v in known if v is not None) if known and None not in known else None


def mean_of_known(values: Iterable[float | None]) -> tuple[float | None, int]:
    """The mean of those that are there, and how many they are."""
    known = [value for value in values if value is not None]
    return (fmean(known) if known else None), len(known)


def deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1); None for fewer than two values."""
    return stdev(values) if len(values) > 1 else None
