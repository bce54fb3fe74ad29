"""Quantiles of Student's t for any positive degrees of freedom, without scipy; intervals from them.

The distribution function goes through the regularised incomplete beta
function, I_x(df/2, 1/2) with x = df / (df + t²), by Lentz's continued fraction (Numerical Recipes,
section 6.4); the quantile by Newton's method on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import exp, inf, lgamma, log, log1p, pi, sqrt
from statistics import NormalDist

CONFIDENCE = 0.95  # of the interval of a mean, and of a claim's comparison

_TINY = 1e-300


def _continued_fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1)
    d = 1.0 / (d if abs(d) > _TINY else _TINY)
    value = d
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 + term * d
            d = 1.0 / (d if abs(d) > _TINY else _TINY)
            c = 1.0 + term / c
            c = c if abs(c) > _TINY else _TINY
            value *= c * d
        if abs(c * d - 1.0) < 1e-14:
            break
    return value


def _incomplete_beta(x: float, a: float, b: float) -> float:
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _continued_fraction(x, a, b) / a
    return 1.0 - front * _continued_fraction(1.0 - x, b, a) / b


def two_sided_tail(t: float, df: float) -> float:
    """P(|T| > t) for t >= 0."""
    return _incomplete_beta(df / (df + t * t), df / 2, 0.5)


@lru_cache(maxsize=4096)
def critical_value(df: float, confidence: float = CONFIDENCE) -> float:
    """The t with P(|T| <= t) = confidence; the normal quantile for infinite (or huge) df."""
    tail = 1.0 - confidence
    t = NormalDist().inv_cdf(1.0 - tail / 2)
    if df == inf or df > 1e7:
        return t
    # The tail is convex in t and the normal quantile lies below: Newton climbs to the root.
    for _ in range(500):
        step = (two_sided_tail(t, df) - tail) / (2 * _density(t, df))
        t += step
        if abs(step) <= 1e-12 * t:
            break
    return t


def half_width(parts: Iterable[tuple[float, float]], confidence: float) -> float:
    """Half of the interval of a sum whose variance is a sum of independent estimates.

    parts: (variance, degrees of freedom it was estimated with), the variances not all 0. Together
    they have Welch and Satterthwaite's degrees of freedom.
    """
    known = [(variance, df) for variance, df in parts if variance]
    total = sum(variance for variance, _ in known)
    df = total**2 / sum(variance**2 / df for variance, df in known)
    return critical_value(round(df, 6), confidence) * sqrt(total)


def _density(t: float, df: float) -> float:
    front = lgamma((df + 1) / 2) - lgamma(df / 2) - log(df * pi) / 2
    return exp(front - (df + 1) / 2 * log1p(t * t / df))
