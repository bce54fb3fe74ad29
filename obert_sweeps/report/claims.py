"""Whether a claim holds here: each comparison with its numbers and its uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean, variance
from typing import Any

from ..catalogue.cell import METRICS, Cell
from ..catalogue.claims import Claim, Place
from ..catalogue.tables import cells as catalogue_cells
from .source import CellPlan, Measured
from .student import critical_value


def claim_entries(
    claims: Sequence[Claim],
    plans: Mapping[str, CellPlan],
    measured: Mapping[str, Measured],
    audit: Mapping[str, Any],
    confidence: float,
) -> list[dict[str, Any]]:
    """Every claim that the selected cells bear on, with verdict held, broken or undecided."""
    selected = {name for name, plan in plans.items() if plan.selected}
    tables = {plans[name].cell.table for name in selected}
    entries = []
    for claim in claims:
        if claim.audit is not None:
            if claim.table not in tables:
                continue
            verdict, evidence = _audited(claim, audit)
        else:
            if not selected.intersection(claim.cells()):
                continue
            evidence = [
                compare(claim, left, right, measured, confidence)
                for left, right in zip(claim.better, claim.worse, strict=True)
            ]
            verdict = _all([item["verdict"] for item in evidence])
        stand_in = any(plans[name].stand_in for name in claim.cells() if name in plans)
        entries.append(
            {
                "id": claim.id,
                "text": claim.text,
                "verdict": verdict,
                "evidence": evidence,
                "table": claim.table,
                "relation": claim.relation if claim.audit is None else claim.audit,
                "why": claim.why,
                "stand_in": stand_in,
            }
        )
    return entries


def compare(
    claim: Claim, left: Place, right: Place, measured: Mapping[str, Measured], confidence: float
) -> dict[str, Any]:
    """One comparison: is left - threshold * right + tolerance above nought, and how surely?"""
    (a_id, metric), (b_id, _) = left, right
    document = {c.id: c for c in catalogue_cells()}
    evidence: dict[str, Any] = {
        "better": a_id,
        "worse": b_id,
        "metric": metric,
        "published": [document[a_id].published[metric], document[b_id].published[metric]],
        "document": _document_says(claim, document[a_id], document[b_id], metric),
        "measured": None,
        "difference": None,
        "half_width": None,
        "paired": False,
    }
    a, b = measured.get(a_id, Measured()), measured.get(b_id, Measured())
    ours, theirs = a.of(metric), b.of(metric)
    if not ours or not theirs:
        return evidence | _without_values(a, b, bool(ours), bool(theirs))
    paired = sorted(set(ours) & set(theirs))
    if len(paired) > 1:
        ours, theirs = ({s: values[s] for s in paired} for values in (ours, theirs))
    excess, half = _excess(
        list(ours.values()), list(theirs.values()), claim, len(paired) > 1, confidence
    )
    verdict, reason = _decide(excess, half, METRICS[metric].margin)
    return evidence | {
        "measured": [fmean(ours.values()), fmean(theirs.values())],
        "difference": fmean(ours.values()) - fmean(theirs.values()),
        "half_width": half,
        "seeds": [len(ours), len(theirs)],
        "paired": len(paired) > 1,
        "verdict": verdict,
        "reason": reason,
    }


def _excess(
    ours: Sequence[float], theirs: Sequence[float], claim: Claim, paired: bool, confidence: float
) -> tuple[float, float | None]:
    """ours - threshold * theirs + tolerance, and the half-width of its confidence interval.

    Paired by seed, else Welch's. With one value on one side, the other side's variance stands for
    both; with one on each there is no interval.
    """
    share, n, m = claim.threshold, len(ours), len(theirs)
    excess = fmean(ours) - share * fmean(theirs) + claim.tolerance
    if paired:
        differences = [x - share * y for x, y in zip(ours, theirs, strict=True)]
        return excess, critical_value(n - 1, confidence) * sqrt(variance(differences) / n)
    if n == m == 1:
        return excess, None
    spread = [variance(x) if len(x) > 1 else None for x in (ours, theirs)]
    if None in spread:
        pooled = next(v for v in spread if v is not None)
        wide = sqrt(pooled * (1 / n + share**2 / m))
        return excess, critical_value(max(n, m) - 1, confidence) * wide
    left, right = (spread[0] or 0.0) / n, share**2 * (spread[1] or 0.0) / m
    if left + right == 0.0:
        return excess, 0.0
    df = (left + right) ** 2 / (left**2 / (n - 1) + right**2 / (m - 1))
    return excess, critical_value(round(df, 6), confidence) * sqrt(left + right)


def _decide(excess: float, half: float | None, margin: float) -> tuple[str, str]:
    if half is None:
        if abs(excess) <= margin:
            return "undecided", f"one seed each, within {margin:g} of the line it must cross"
        verdict = "held" if excess > 0 else "broken"
        return verdict, f"one seed each, clear of the line by over {margin:g}"
    if excess - half > 0:
        return "held", "the interval of the difference bears it"
    if excess + half < 0:
        return "broken", "the interval of the difference denies it"
    return "undecided", "the interval of the difference holds both"


def _without_values(a: Measured, b: Measured, ours: bool, theirs: bool) -> dict[str, str]:
    """A method that does not converge loses to one that does."""
    if ours and b.diverged and not b.values:
        return {"verdict": "held", "reason": "the other does not converge"}
    if theirs and a.diverged and not a.values:
        return {"verdict": "broken", "reason": "it does not converge"}
    both = not ours and not theirs and a.finished and b.finished
    return {
        "verdict": "undecided",
        "reason": "neither converges" if both else "not all of its cells are finished",
    }


def _document_says(claim: Claim, a: Cell, b: Cell, metric: str) -> bool | None:
    """Whether the printed numbers bear the claim; None where they do not tell."""
    ours, theirs = a.published[metric], b.published[metric]
    if ours is not None and theirs is not None:
        return ours - claim.threshold * theirs + claim.tolerance > 0
    return True if ours is not None and not b.converges else None


def _all(verdicts: Sequence[str]) -> str:
    if "broken" in verdicts:
        return "broken"
    return "held" if verdicts and set(verdicts) == {"held"} else "undecided"


def _audited(claim: Claim, audit: Mapping[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    groups = [group for group in audit["methods"] if group["table"] == claim.table]
    if claim.method is not None:
        groups = [group for group in groups if group["method"] == claim.method]
    if claim.audit == "no_distillation":
        found = [g for g in groups if g["distilled"]]
        evidence = [{"method": g["method"], "distilled": g["distilled"]} for g in groups]
    else:
        found = [g for g in groups if g["knobs"]]
        groups = [g for g in groups if len(g["tasks"]) > 1]
        evidence = [
            {k: g[k] for k in ("method", "tasks", "knobs", "early_stopping")} for g in groups
        ]
    if found:
        return "broken", evidence
    return ("held" if groups else "undecided"), evidence
