"""Student's t against tables and scipy."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obert_sweeps.report.student import critical_value, two_sided_tail


@pytest.mark.parametrize(
    ("df", "value"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (30, 2.0423), (inf, 1.95996)]
)
def test_printed_tables(df, value):
    assert critical_value(df) == pytest.approx(value, abs=5e-5)


@given(st.floats(0.5, 5000), st.floats(0.5, 0.999))
def test_scipy_agrees(df, confidence):
    stats = pytest.importorskip("scipy.stats")
    assert critical_value(df, confidence) == pytest.approx(
        stats.t.ppf((1 + confidence) / 2, df), rel=1e-8
    )


def test_no_distance_has_the_whole_tail():
    assert two_sided_tail(0.0, 3) == 1.0
    assert two_sided_tail(1e9, 3) == pytest.approx(0.0, abs=1e-12)
