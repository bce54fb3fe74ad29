"""Student's t against printed tables, closed forms and the integral of its density."""

from __future__ import annotations

from math import exp, inf, lgamma, log, log1p, pi, sqrt, tan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obert_sweeps.report.judgement.student import critical_value, two_sided_tail

PRINTED = {  # two-sided, as statistics books print them
    0.90: {1: 6.314, 2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015, 10: 1.812, 30: 1.697, inf: 1.645},
    0.95: {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 10: 2.228, 30: 2.042, inf: 1.960},
    0.99: {1: 63.657, 2: 9.925, 3: 5.841, 4: 4.604, 5: 4.032, 10: 3.169, 30: 2.750, inf: 2.576},
}


@pytest.mark.parametrize(
    ("confidence", "df", "value"),
    [(c, df, value) for c, column in PRINTED.items() for df, value in column.items()],
)
def test_printed_tables(confidence, df, value):
    assert critical_value(df, confidence) == pytest.approx(value, abs=6e-4)


@given(st.floats(0.5, 0.999))
def test_closed_forms_of_one_and_two_degrees(confidence):
    assert critical_value(1, confidence) == pytest.approx(tan(pi * confidence / 2), rel=1e-9)
    two = confidence * sqrt(2 / (1 - confidence**2))
    assert critical_value(2, confidence) == pytest.approx(two, rel=1e-9)


@given(st.floats(1, 300), st.floats(0.5, 0.99))
def test_the_density_integrates_to_the_confidence(df, confidence):
    """Also where the degrees of freedom are no whole number. Simpson's rule."""
    t, steps = critical_value(df, confidence), 2000
    front = lgamma((df + 1) / 2) - lgamma(df / 2) - log(df * pi) / 2
    total = 0.0
    for k in range(steps + 1):
        x = t * k / steps
        weight = 1 if k in (0, steps) else 4 if k % 2 else 2
        total += weight * exp(front - (df + 1) / 2 * log1p(x * x / df))
    assert 2 * total * t / steps / 3 == pytest.approx(confidence, rel=1e-6)


def test_no_distance_has_the_whole_tail():
    assert two_sided_tail(0.0, 3) == 1.0
    assert two_sided_tail(1e9, 3) == pytest.approx(0.0, abs=1e-12)
