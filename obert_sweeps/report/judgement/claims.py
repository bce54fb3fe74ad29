"""Whether a claim holds here: by its comparisons, or by the set-ups that it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...catalogue.claims import Claim
from ..facts.outcome import CellOutcome
from ..facts.views import CellView
from .comparison import compare
from .setups import decide
from .student import CONFIDENCE


def claim_entries(
    claims: Sequence[Claim],
    plans: Mapping[str, CellView],
    outcomes: Mapping[str, CellOutcome],
    audit: Mapping[str, Any],
    entries: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Every claim that the selected cells bear on, with verdict held, broken or undecided.

    `entries` are the cells of the report. `leaning` says where the numbers point, whatever their
    uncertainty: held, broken or tied, on the line itself, where all comparisons do so, else mixed;
    None where some are missing. `last_epoch` is the same claim with what each cell scored at its
    last epoch, where some kept the weights of another: those of the best on the scored rows, as
    only some methods do.
    """
    selected = {name for name, plan in plans.items() if plan.selected}
    tables = {plans[name].cell.table for name in selected}
    as_published = not any(plans[name].comparison for name in selected)
    last = {name: outcome.at_last_epoch() for name, outcome in outcomes.items()}
    found = []
    for claim in claims:
        last_epoch = None
        if claim.audit is None and selected.intersection(claim.cells()):
            decided = _decided(claim, plans, outcomes)
            if any(last[n].values != outcomes[n].values for n in claim.cells() if n in outcomes):
                last_epoch = _decided(claim, plans, last)
        elif claim.audit is not None and claim.table in tables:
            verdict, evidence = decide(claim, audit, entries, as_published)
            decided = {"verdict": verdict, "evidence": evidence, "leaning": None}
        else:
            continue
        used = [plans[name] for name in claim.cells() if name in plans]
        found.append(
            {
                "id": claim.id,
                "text": claim.text,
                **decided,
                "last_epoch": last_epoch,
                "table": claim.table,
                "relation": claim.relation if claim.audit is None else claim.audit,
                "threshold": claim.threshold,
                "tolerance": claim.tolerance,
                "why": claim.why,
                "stand_in": claim.audit is None and any(plan.stand_in for plan in used),
                "assumed": any(plan.assumed for plan in used),
            }
        )
    return found


def _decided(
    claim: Claim, plans: Mapping[str, CellView], outcomes: Mapping[str, CellOutcome]
) -> dict[str, Any]:
    evidence = _compared(claim, plans, outcomes)
    return {
        "verdict": _together(claim, evidence, plans, outcomes),
        "evidence": evidence,
        "leaning": _leaning(evidence),
    }


def _compared(
    claim: Claim,
    plans: Mapping[str, CellView],
    outcomes: Mapping[str, CellOutcome],
    confidence: float = CONFIDENCE,
) -> list[dict[str, Any]]:
    pairs = zip(claim.better, claim.worse, strict=True)
    return [compare(claim, left, right, plans, outcomes, confidence) for left, right in pairs]


def _together(
    claim: Claim,
    evidence: Sequence[Mapping[str, Any]],
    plans: Mapping[str, CellView],
    outcomes: Mapping[str, CellOutcome],
) -> str:
    """All comparisons held; or one broken for sure.

    Of k true comparisons one in twenty seems broken by chance, each: to break the claim one must be
    broken at confidence 1 - (1 - CONFIDENCE) / k (Bonferroni).
    """
    verdicts = [item["verdict"] for item in evidence]
    if "broken" in verdicts:
        strict = 1 - (1 - CONFIDENCE) / len(verdicts)
        surely = [item["verdict"] for item in _compared(claim, plans, outcomes, strict)]
        return "broken" if "broken" in surely else "undecided"
    return "held" if verdicts and set(verdicts) == {"held"} else "undecided"


def _leaning(evidence: Sequence[Mapping[str, Any]]) -> str | None:
    leanings = {item["leaning"] for item in evidence}
    if not leanings or None in leanings:
        return None
    return leanings.pop() if len(leanings) == 1 else "mixed"
