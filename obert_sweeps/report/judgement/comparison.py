"""One comparison of a claim: by how much one cell beats its line, and how surely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from statistics import fmean, variance
from typing import Any

from ...catalogue.cell import Cell
from ...catalogue.claims import CellMetric, Claim
from ...catalogue.seeds import PublishedDeviation, published_deviation
from ...catalogue.tables import cell_named
from ..facts.lineage import of_own_seeds
from ..facts.outcome import CellOutcome
from ..facts.views import CellView
from .student import CONFIDENCE, half_width
from .verdicts import ROUNDING, no_interval

BySeed = Mapping[int, float]
Given = tuple[PublishedDeviation | None, PublishedDeviation | None]  # of either side


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
    stand_ins = any(plans[name].stand_in for name in (a_id, b_id) if name in plans)
    given = [None if stand_ins else published_deviation(cell, metric) for cell in document]
    found = _of_values(claim, ours, theirs, (given[0], given[1]), confidence)
    return evidence | found | _with_diverged(found["leaning"], a, b)


def _of_values(
    claim: Claim, ours: BySeed, theirs: BySeed, given: Given, confidence: float
) -> dict[str, Any]:
    """The comparison of values by seed: in pairs, of shared seeds alone, where several are."""
    shared = sorted(set(ours) & set(theirs))
    paired = len(shared) > 1
    left, right = ([values[s] for s in (shared if paired else values)] for values in (ours, theirs))
    excess = fmean(left) - claim.threshold * fmean(right) + claim.tolerance
    half = _half_width(left, right, claim.threshold, paired, given, confidence)
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


def _half_width(
    ours: Sequence[float],
    theirs: Sequence[float],
    share: float,
    paired: bool,
    given: Given,
    confidence: float,
) -> float | None:
    """Of the interval of mean(ours) - share * mean(theirs); None where a side's spread is unknown.

    Paired by seed, else Welch's.
    """
    if paired:
        differences = [x - share * y for x, y in zip(ours, theirs, strict=True)]
        parts = [(variance(differences) / len(ours), len(ours) - 1.0)]
    else:
        left, right = _of_mean(ours, given[0]), _of_mean(theirs, given[1])
        if left is None or right is None:
            return None
        parts = [left, (share**2 * right[0], right[1])]
    return half_width(parts, confidence) if sum(v for v, _ in parts) > ROUNDING**2 else None


def _of_mean(
    values: Sequence[float], given: PublishedDeviation | None
) -> tuple[float, float] | None:
    """The variance of one side's mean, with its degrees of freedom; None if nothing tells it.

    What the seeds do not vary, such as the pruning of one dense model by magnitude, is certain.
    """
    if len(values) > 1 and (found := variance(values)) > ROUNDING**2:
        return found / len(values), len(values) - 1
    if given is not None:
        return given.value**2, given.seeds - 1
    return (0.0, inf) if len(values) > 1 else None


def _with_diverged(leaning: str, a: CellOutcome, b: CellOutcome) -> dict[str, Any]:
    """What is left of a lead where some seeds diverged, which is worse than any value."""
    winner = {"held": a, "broken": b}.get(leaning)
    if winner is None or not winner.diverged:
        return {}
    count = len(winner.diverged) + len(winner.values)
    reason = f"{len(winner.diverged)} of {count} seeds of the better one did not converge"
    return {"verdict": "undecided", "reason": reason, "leaning": None}


def _decide(excess: float, half: float | None) -> tuple[str, str]:
    if half is None:
        return "undecided", no_interval("one seed on a side, or the same for all")
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
