"""Counts, seconds and bytes as a person reads them."""

from __future__ import annotations

import pytest

from obert_sweeps.amounts import counted, duration, rounded, size


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0 s"),
        (0.0, "0 s"),
        (0.4, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0.0 kB"),
        (15_000, "15.0 kB"),
        (999_960, "1.0 MB"),
        (989_000, "989.0 kB"),
        (24e9, "24.0 GB"),
    ],
)
def test_sizes(count: float, said: str) -> None:
    assert size(count) == said


def test_numbers_have_three_digits() -> None:
    said = [rounded(number) for number in (0.0, 0.01184, 15.34, 999.6, 4926.0, 1_234_567.0)]
    assert said == ["0", "0.0118", "15.3", "1,000", "4,930", "1,230,000"]


def test_one_thing_is_no_plural() -> None:
    assert [counted(n, "cell") for n in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]
