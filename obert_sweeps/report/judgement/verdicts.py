"""What measured values say about published ones. Pure functions; no files, no plan.

The interval. n seeds have mean x and deviation s; the published value p is the mean of k runs of a
quantity with deviation s_pub. x - p has variance s²/n + s_pub²/k, so its interval is
x - p ± t sqrt(s²/n + s_pub²/k). s_pub is the published deviation over seeds where there is one,
else s; k is 1 where it is not known. With one seed s is s_pub; with neither there is no interval.

t is Student's, with Welch and Satterthwaite's degrees of freedom: s was estimated with n - 1, s_pub
with one less than the seeds that were printed. Of simulated draws such intervals of 90 % cover 89
to 92 % with three seeds or more, and 86 to 93 % with two, the less the more ours vary.

The verdict is a test of equivalence (two one-sided tests; Schuirmann 1987): `reproduced` where the
whole interval lies within the metric's margin, `better` or `worse` where it lies wholly beyond,
`undecided` elsewhere: noise decides nothing. The interval is of 90 %, so that each of these is
wrong in one case of twenty at most, where the truth lies on the margin itself.

Seeds that all give the same value say nothing of how it varies: often what the seed varies plays
no part, as in pruning one dense model at once without any draw. They count as one seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from ...catalogue.seeds import PublishedDeviation
from ..facts.means import deviation
from . import student

AGREEMENT = 0.90  # confidence of the interval of measured - published: 5 % on each side
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
    half_width: float | None  # None: no interval, or none is needed (exact metrics)
    margin: float
    seeds_to_decide: int | None  # had they this mean and deviation; None: decided, or hopeless
    reason: str


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Confidence interval of the mean over seeds; None for fewer than two different values."""
    s = deviation(values)
    if not s:
        return None
    half = student.half_width([(s * s / len(values), len(values) - 1)], student.CONFIDENCE)
    return fmean(values) - half, fmean(values) + half


def half_width(
    count: int, s: float | None, s_pub: PublishedDeviation | None, runs: int = 1
) -> float | None:
    """Half the width of the interval of measured - published; None when there is none.

    count, runs: n and k.
    """
    if count == 1 or s == 0.0:
        if s_pub is None:
            return None
        parts = [(s_pub.value**2 * (1 + 1 / runs), s_pub.seeds - 1)]
    elif s is None:
        return None
    elif s_pub is None:
        parts = [(s * s * (1 / count + 1 / runs), count - 1)]
    else:
        parts = [(s * s / count, count - 1), (s_pub.value**2 / runs, s_pub.seeds - 1)]
    return student.half_width(parts, AGREEMENT)


def judge(
    values: Sequence[float],
    published: float,
    margin: float,
    *,
    s_pub: PublishedDeviation | None = None,
    exact: bool = False,
    lower_is_better: bool = False,
    reading_error: float = 0.0,
    runs: int = 1,
) -> Judgement:
    """The verdict on one metric from its values over seeds (at least one)."""
    if not values:
        raise ValueError("no values to judge: a cell without results has no interval")
    margin += reading_error
    difference = fmean(values) - published
    gain = -difference if lower_is_better else difference
    if exact:
        verdict = _beyond(gain, 0.0, margin) or "reproduced"
        return Judgement(verdict, difference, None, margin, None, "does not vary with the seed")
    count, s = len(values), deviation(values)
    half = half_width(count, s, s_pub, runs)
    if half is None:
        reason = no_interval("one seed" if count == 1 else "the same for all seeds")
        return Judgement("undecided", difference, None, margin, None, reason)
    verdict, reason = _decide(gain, half, margin)
    needed = None
    if verdict == "undecided":
        spread = s or (s_pub.value if s_pub is not None else None)
        more = (n for n in _SEEDS_TRIED if n > count)
        needed = next((n for n in more if _decided(gain, n, spread, s_pub, runs, margin)), None)
        reason += "" if needed else f"; not even {_SEEDS_TRIED[-1]} seeds would decide it"
    return Judgement(verdict, difference, half, margin, needed, reason)


def _decided(
    gain: float,
    count: int,
    s: float | None,
    s_pub: PublishedDeviation | None,
    runs: int,
    margin: float,
) -> bool:
    half = half_width(count, s, s_pub, runs)
    return half is not None and _decide(gain, half, margin)[0] != "undecided"


def no_interval(seeds: str) -> str:
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
    if abs(gain) + half <= margin + ROUNDING:
        return "reproduced", "the whole interval lies within the margin"
    if half > margin:
        return "undecided", f"the interval, ±{half:.2f}, is wider than the margin of {margin:g}"
    return "undecided", f"the interval, ±{half:.2f}, crosses the margin of {margin:g}"


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
