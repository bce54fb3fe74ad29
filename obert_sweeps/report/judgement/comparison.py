"""One comparison of a claim: by how much one cell beats its line, and how surely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, sqrt
from statistics import fmean, variance
from typing import Any

from ...catalogue.cell import Cell
from ...catalogue.claims import CellMetric, Claim
from ...catalogue.seeds import published_deviation
from ...catalogue.tables import cell_named
from ..facts.lineage import of_own_seeds
from ..facts.outcome import CellOutcome
from ..facts.views import CellView
from .student import CONFIDENCE, critical_value
from .verdicts import ROUNDING, no_band


def _leans(excess: float) -> str:
    if abs(excess) <= ROUNDING:
        return "tied"
    return "held" if excess > 0 else "broken"


def compare(
    claim: Claim,
    left: CellMetric,
    right: CellMetric,
    plans: Mapping[str, CellView],
    outcomes: Mapping[str, CellOutcome],
    confidence: float = CONFIDENCE,
) -> dict[str, Any]:
    """One comparison: is left - threshold * right + tolerance above nought, and how surely?"""
    (a_id, metric), (b_id, _) = left, right
    document = (cell_named(a_id), cell_named(b_id))
    evidence: dict[str, Any] = {
        "better": a_id,
        "worse": b_id,
        "metric": metric,
        "published": [cell.published[metric] for cell in document],
        "document": _document_says(claim, *document, metric),
        "measured": None,
        "difference": None,
        "above_line": None,  # left - threshold * right + tolerance
        "half_width": None,  # of above_line's interval
        "paired": False,
    }
    a, b = outcomes.get(a_id, CellOutcome()), outcomes.get(b_id, CellOutcome())
    ours, theirs = a.of(metric), b.of(metric)
    if document[0].baseline == b_id and a_id in plans and b_id in plans:
        theirs = of_own_seeds(theirs, plans[a_id], plans[b_id])
    if not ours or not theirs:
        return evidence | _without_values(a, b, bool(ours), bool(theirs))
    s_pub = None
    if not any(plans[name].stand_in for name in (a_id, b_id) if name in plans):
        published = [published_deviation(cell, metric) for cell in document]
        s_pub = next((s for s in published if s is not None), None)
    return evidence | _of_values(claim, ours, theirs, s_pub, confidence)


def _of_values(
    claim: Claim,
    ours: Mapping[int, float],
    theirs: Mapping[int, float],
    s_pub: float | None,
    confidence: float,
) -> dict[str, Any]:
    """The comparison of values by seed: in pairs, of shared seeds alone, where several are."""
    shared = sorted(set(ours) & set(theirs))
    paired = len(shared) > 1
    left, right = ([values[s] for s in (shared if paired else values)] for values in (ours, theirs))
    excess, half = _excess(left, right, claim, paired, s_pub, confidence)
    verdict, reason = _decide(excess, half)
    return {
        "measured": [fmean(left), fmean(right)],
        "difference": fmean(left) - fmean(right),
        "above_line": excess,
        "half_width": half,
        "seeds": [len(left), len(right)],
        "paired": paired,
        "leaning": _leans(excess),
        "verdict": verdict,
        "reason": reason,
    }


def _excess(
    ours: Sequence[float],
    theirs: Sequence[float],
    claim: Claim,
    paired: bool,
    s_pub: float | None,
    confidence: float,
) -> tuple[float, float | None]:
    """ours - threshold * theirs + tolerance, and the half-width of its confidence interval.

    Where the seeds show no deviation (one on each side, or the same for all) the published one
    stands for it, and without one, as of stand-ins, there is no interval.
    """
    excess = fmean(ours) - claim.threshold * fmean(theirs) + claim.tolerance
    spread, df = _spread(ours, theirs, claim.threshold, paired)
    if spread <= ROUNDING**2:
        if s_pub is None:
            return excess, None
        spread = s_pub**2 * (1 / len(ours) + claim.threshold**2 / len(theirs))
        df = inf
    return excess, critical_value(df, confidence) * sqrt(spread)


def _spread(
    ours: Sequence[float], theirs: Sequence[float], share: float, paired: bool
) -> tuple[float, float]:
    """The variance of mean(ours) - share * mean(theirs), and its degrees of freedom.

    Paired by seed, else Welch's. With one value on one side, the other side's variance stands for
    both.
    """
    n, m = len(ours), len(theirs)
    if paired:
        return variance([x - share * y for x, y in zip(ours, theirs, strict=True)]) / n, n - 1
    if min(n, m) == 1:
        longer = ours if n > m else theirs
        known = variance(longer) if len(longer) > 1 else 0.0
        return known * (1 / n + share**2 / m), max(n, m) - 1
    left, right = variance(ours) / n, share**2 * variance(theirs) / m
    if left + right == 0.0:
        return 0.0, inf
    df = (left + right) ** 2 / (left**2 / (n - 1) + right**2 / (m - 1))
    return left + right, round(df, 6)


def _decide(excess: float, half: float | None) -> tuple[str, str]:
    if half is None:
        return "undecided", no_band("one seed each, or the same for all")
    if excess - half > 0:
        return "held", "the interval of the difference is above zero"
    if excess + half < 0:
        return "broken", "the interval of the difference is below zero"
    return "undecided", "the interval of the difference includes zero"


def _without_values(a: CellOutcome, b: CellOutcome, ours: bool, theirs: bool) -> dict[str, Any]:
    """A method that does not converge loses to one that does."""
    if ours and b.diverged and not b.values:
        return {"verdict": "held", "reason": "the other does not converge", "leaning": "held"}
    if theirs and a.diverged and not a.values:
        return {"verdict": "broken", "reason": "it does not converge", "leaning": "broken"}
    both = not ours and not theirs and a.finished and b.finished
    reason = "neither converges" if both else "not all of its cells are finished"
    return {"verdict": "undecided", "reason": reason, "leaning": None}


def _document_says(claim: Claim, a: Cell, b: Cell, metric: str) -> bool | None:
    """Whether the printed numbers bear the claim; None where they do not tell."""
    ours, theirs = a.published[metric], b.published[metric]
    if ours is not None and theirs is not None:
        return ours - claim.threshold * theirs + claim.tolerance > 0
    return True if ours is not None and not b.converges else None
