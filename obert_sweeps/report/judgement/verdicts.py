"""What measured values say about published ones. Pure functions; no files, no plan.

The band. n seeds have mean x and deviation s; the published value p is the mean of k runs of a
quantity with deviation s_pub. Under agreement x - p has variance s²/n + s_pub²/k, so agreement is
|x - p| <= h with h = t sqrt(s²/n + s_pub²/k). s_pub is the published deviation over seeds where
there is one, else s; k is 1 where it is not known. With one seed s is s_pub and t the normal
quantile; with neither there is no band.

t is Student's. Where s stands for s_pub too it has n - 1 degrees of freedom; where a given s_pub
carries part of the variance V it has (n - 1) V / V_own, V_own being the part that s carries. (The
rule of Welch and Satterthwaite squares that ratio. With two seeds that vary twice as much as the
published ones it covers 91 %, this one 94 %, and 96 % where they vary alike.)

Seeds that all give the same value say nothing of how it varies: often what the seed varies plays
no part, as in pruning one dense model at once without any draw. They count as no deviation.

A band wider than the metric's margin cannot mean agreement, and being better or worse needs the
whole interval x - p ± h beyond the margin: noise decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import fmean

from ..facts.means import deviation
from .student import critical_value

ROUNDING = 1e-9  # of floating point: values that differ by less are the same
_SEEDS_TRIED = (*range(2, 31), 40, 50, 75, 100)


def verdict_label(token: str) -> str:
    """A cell's verdict: reproduced, not converged, stand-in."""
    return "stand-in" if token == "stand_in" else token.replace("_", " ")


@dataclass(frozen=True)
class Judgement:
    """One metric of one cell. Differences and widths are in the metric's own unit."""

    verdict: str  # reproduced | better | worse | undecided
    difference: float  # measured mean - published
    half_width: float | None  # None: no band, or none is needed (exact metrics)
    margin: float
    seeds_to_decide: int | None  # had they this mean and deviation; None: decided, or hopeless
    reason: str


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Confidence interval of the mean over seeds; None for fewer than two different values."""
    s = deviation(values)
    if not s:
        return None
    half = critical_value(len(values) - 1) * s / sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def half_width(
    count: int, s: float | None, s_pub: float | None, reading_error: float = 0.0, runs: int = 1
) -> float | None:
    """Half the width of the band around the published value; None when there is no band.

    count, runs: n and k. `reading_error` (half-width, taken as uniform) is what a value read off a
    figure may be off by.
    """
    if count == 1:
        s = s_pub
    if s is None or (s == 0.0 and s_pub is None):
        return None
    own = s * s * (1 / count + (0.0 if s_pub is not None else 1 / runs))  # estimated, count - 1 df
    given = (s_pub or 0.0) ** 2 / runs + reading_error**2 / 3
    variance = own + given
    if variance == 0.0:
        return 0.0
    if count == 1 or own == 0.0:
        df = inf
    else:
        df = (count - 1) * variance / own
    return critical_value(round(df, 6) if df < inf else inf) * sqrt(variance)


def judge(
    values: Sequence[float],
    published: float,
    margin: float,
    *,
    s_pub: float | None = None,
    exact: bool = False,
    lower_is_better: bool = False,
    reading_error: float = 0.0,
    runs: int = 1,
) -> Judgement:
    """The verdict on one metric from its values over seeds (at least one)."""
    if not values:
        raise ValueError("no values to judge: a cell without results has no band")
    margin += reading_error
    difference = fmean(values) - published
    gain = -difference if lower_is_better else difference
    if exact:
        verdict = _beyond(gain, 0.0, margin) or "reproduced"
        return Judgement(verdict, difference, None, margin, None, "does not vary with the seed")
    count, s = len(values), deviation(values)
    half = half_width(count, s, s_pub, reading_error, runs)
    if half is None:
        reason = no_band("one seed" if count == 1 else "the same for all seeds")
        return Judgement("undecided", difference, None, margin, None, reason)
    verdict, reason = _decide(gain, half, margin)
    needed = None
    if verdict == "undecided":
        for more in (n for n in _SEEDS_TRIED if n > count):
            width = half_width(more, s_pub if s is None else s, s_pub, reading_error, runs)
            if width is not None and _decide(gain, width, margin)[0] != "undecided":
                needed = more
                break
    return Judgement(verdict, difference, half, margin, needed, reason)


def no_band(seeds: str) -> str:
    """The reason why seeds of which no more is known give no interval."""
    return f"{seeds}, and no published deviation over seeds"


def _beyond(gain: float, half: float, margin: float) -> str | None:
    if gain - half > margin + ROUNDING:
        return "better"
    return "worse" if gain + half < -margin - ROUNDING else None


def _decide(gain: float, half: float, margin: float) -> tuple[str, str]:
    """`gain` is what measured is better by than published."""
    if beyond := _beyond(gain, half, margin):
        return beyond, "the whole interval lies beyond the margin"
    if half > margin:
        return "undecided", f"the band of ±{half:.2f} is wider than the margin of {margin:g}"
    if abs(gain) <= half + ROUNDING:
        return "reproduced", "inside the band"
    return "undecided", "outside the band, but not wholly beyond the margin"


def combine(verdicts: Iterable[str]) -> str:
    """The cell's token from its metrics': one worse makes it worse, one undecided leaves it open.

    Nothing published that was measured gives `unpublished`.
    """
    found = set(verdicts)
    for token in ("worse", "undecided", "better", "reproduced"):
        if token in found:
            return token
    return "unpublished"


def cell_verdict(
    *,
    blocked: bool,
    failed: bool,
    converged: Sequence[bool],
    stand_in: bool,
    published_converges: bool,
    metrics: Iterable[str],
) -> str:
    """The contract's token. `converged` has one entry a finished seed, `metrics` one verdict each.

    Only seeds that a fault kept from finishing count as failed: leaving them out could flatter.
    """
    if blocked:
        return "blocked"
    if failed:
        return "failed"
    if not converged:
        return "not_run"
    if stand_in:
        diverged = not all(converged)
        return "not_converged" if diverged and published_converges else "stand_in"
    if not published_converges:  # printed as "does not converge"
        if any(converged):
            return "better" if all(converged) else "undecided"
        return "reproduced"
    if not all(converged):
        return "not_converged"
    return combine(metrics)
