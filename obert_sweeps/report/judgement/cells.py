"""The cells of the report: measured beside published, with verdict, recovery and rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from statistics import fmean
from typing import Any

from ...catalogue.cell import Cell, metric_named
from ...catalogue.seeds import published_deviation
from ...catalogue.tables import cell_named
from ..facts.lineage import of_own_seeds
from ..facts.means import deviation, means
from ..facts.outcome import CellOutcome, as_asked_for
from ..facts.views import CellView
from .ranks import NO_RANK, measured_ranks, published_ranks
from .verdicts import Judgement, cell_verdict, judge, mean_interval, verdict_label

CellEntry = Mapping[str, Any]  # a cell in report.json


def cell_entries(
    plans: Mapping[str, CellView], outcomes: Mapping[str, CellOutcome]
) -> list[dict[str, Any]]:
    """One entry for each selected cell, in the plan's order."""
    entries = [_entry(plan, plans, outcomes) for plan in plans.values() if plan.selected]
    ranks = {"": measured_ranks(plans, outcomes), "published_": published_ranks()}
    for entry in entries:
        for whose, found in ranks.items():
            rank = found.get(entry["id"], NO_RANK)
            entry[f"{whose}rank"], entry[f"{whose}rank_of"] = rank.rank, rank.of
            entry[f"{whose}rank_tied"] = rank.tied
    return entries


def _entry(
    plan: CellView, plans: Mapping[str, CellView], outcomes: Mapping[str, CellOutcome]
) -> dict[str, Any]:
    cell, outcome = plan.cell, outcomes[plan.cell.id]
    shown = means(outcome.values.values()) or means(outcome.diverged.values())
    judgements = {} if plan.stand_in else _judge(cell, outcome)
    verdict = cell_verdict(
        blocked=plan.blocked is not None,
        failed=bool(outcome.failures),
        converged=[True] * len(outcome.values) + [False] * len(outcome.diverged),
        stand_in=plan.stand_in,
        published_converges=cell.converges,
        metrics=[judgement.verdict for judgement in judgements.values()],
    )
    entry: dict[str, Any] = {
        "id": cell.id,
        "verdict": verdict,
        "label": _label(verdict, plan),
        "metric": plan.metric,
        "measured": shown,
        "sd": {m: deviation(list(outcome.of(m).values())) for m in shown},
        "interval": {m: mean_interval(list(outcome.of(m).values())) for m in shown},
        "seeds": sorted([*outcome.values, *outcome.diverged]),
        "diverged": sorted(outcome.diverged),
        "published": dict(cell.published),
        "stages": list(plan.stages),
        "finals": {str(seed): final for seed, final in plan.finals.items()},
        "measured_sparsity": outcome.measured_sparsity,
        "by_metric": {m: asdict(judgement) for m, judgement in judgements.items()},
        "not_measured": _not_measured(cell, outcome),
        "final_epoch": means(outcome.final_values.values()),
        **_recovery(plan, plans, outcomes),
        "stand_in": plan.stand_in,
        "assumed": dict(plan.assumed),
        "reason": _reason(plan, outcome, judgements),
        "notes": _notes(plan, outcome),
        "remarks": _remarks(outcome),
    }
    for name in ("table", "task", "model", "method", "sparsity", "pattern", "variant", "note"):
        entry[name] = getattr(cell, name)
    return entry


def _label(verdict: str, plan: CellView) -> str:
    assumed = " (under assumptions)" if verdict == "worse" and plan.assumed else ""
    return verdict_label(verdict) + assumed


def _judge(cell: Cell, outcome: CellOutcome) -> dict[str, Judgement]:
    judgements = {}
    for name, published in cell.published.items():
        values = list(outcome.of(name).values())
        metric = metric_named(name)
        if published is None or not values or metric.of_the_machine:
            continue
        judgements[name] = judge(
            values,
            published,
            metric.margin * (abs(published) if metric.relative else 1.0),
            s_pub=published_deviation(cell, name),
            exact=metric.exact,
            lower_is_better=metric.lower_is_better,
            reading_error=cell.reading_error,
            runs=cell.runs,
        )
    return judgements


def _not_measured(cell: Cell, outcome: CellOutcome) -> dict[str, str]:
    """Published metrics that a finished cell's results do not hold, each with the reason."""
    if not outcome.values:
        return {}
    return {
        name: metric_named(name).needs
        for name, published in cell.published.items()
        if published is not None and not outcome.of(name)
    }


def _recovery(
    plan: CellView, plans: Mapping[str, CellView], outcomes: Mapping[str, CellOutcome]
) -> dict[str, float | None]:
    """Shares of the own dense model on the primary metric, ours and the document's, 0..1.

    None where a seed diverged. `dense` is the score of ours, over the cell's own seeds as far as it
    has them: where a seed is missing, the others' dense models are not its measure. A cell of one's
    own has its dense model among its stages, if any.
    """
    cell, outcome = plan.cell, outcomes[plan.cell.id]
    metric = plan.metric
    values, dense = outcome.of(metric), dict[int, float]()
    baseline = cell.baseline or cell.id
    if cell.table == 0:
        values = {seed: value for seed, value in values.items() if seed in outcome.dense}
        dense = {seed: outcome.dense[seed] for seed in values}
    elif baseline in outcomes:
        dense = outcomes[baseline].of(metric)
        dense = of_own_seeds(dense, plan, plans[baseline]) if baseline in plans else dense
        dense = {seed: dense[seed] for seed in values if seed in dense} or dense
    ours, own = (fmean(found.values()) if found else None for found in (values, dense))
    ours = None if outcome.diverged else ours  # of the seeds that survived it would flatter
    printed_dense = cell_named(cell.baseline) if cell.baseline else cell
    theirs = _share(cell.published.get(metric), printed_dense.published.get(metric))
    return {"recovery": _share(ours, own), "published_recovery": theirs, "dense": own}


def _share(value: float | None, dense: float | None) -> float | None:
    return value / dense if value is not None and dense is not None and dense > 0 else None


def _reason(
    plan: CellView, outcome: CellOutcome, judgements: Mapping[str, Judgement]
) -> str | None:
    """One line on why the verdict is what it is, where it does not speak for itself."""
    if plan.blocked is not None:
        return plan.blocked
    if outcome.failures:
        seed, failure = next(iter(sorted(outcome.failures.items())))
        return f"seed {seed}, stage {failure['stage']}: {failure.get('reason', 'no reason given')}"
    lines = [
        f"{metric_named(name).label}: {judgement.reason}"
        for name, judgement in judgements.items()
        if judgement.verdict == "undecided"
    ]
    return "; ".join(lines) or None


def _remarks(outcome: CellOutcome) -> list[str]:
    """What must be known to read its numbers at all: such as one class predicted for all rows."""
    return sorted({r["remark"] for r in outcome.results if r.get("remark")})


def _notes(plan: CellView, outcome: CellOutcome) -> list[str]:
    notes = [plan.comparison] if plan.comparison else []
    if plan.cell.table and plan.cell.settings:
        notes.append(f"with {' '.join(plan.cell.settings)}, not as published")
    notes += [f"not as published: {what}" for what in plan.unlike]
    finished = len(outcome.values) + len(outcome.diverged)
    if finished and finished < len(plan.finals):
        notes.append(f"{finished} of {len(plan.finals)} seeds are finished")
    if outcome.diverged:
        seeds = ", ".join(map(str, sorted(outcome.diverged)))
        reasons = {(r.get("evidence") or {}).get("reason", "") for r in outcome.results} - {""}
        notes.append("; ".join([f"did not converge with seed {seeds}", *sorted(reasons)]))
    share, asked = outcome.measured_sparsity, plan.cell.sparsity
    if share is not None and not as_asked_for(share, asked):
        found = f"{100 * share:.1f} % of the prunable weights are zero"
        notes.append(f"{found}; {100 * asked:g} % was asked for")
    notes += _remarks(outcome)
    if plan.assumed:
        notes.append("assumed, since no source says: " + ", ".join(sorted(plan.assumed)))
    return notes
