"""The report as one plain dictionary: the contract's `report.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..catalogue.claims import claims
from .facts.cost import cost
from .facts.effort import effort
from .facts.environment import environment
from .facts.inference import inference
from .facts.neighbours import neighbours
from .facts.origin import origin
from .facts.outcome import outcome_of
from .facts.views import Once, PlanView, StoreView
from .judgement.audit import audit
from .judgement.cells import cell_entries
from .judgement.claims import claim_entries


def build(
    plan: PlanView,
    store: StoreView,
    records: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Judge the plan's selected cells by what the store holds.

    Recoveries, ranks and claims also use cells of the plan that are not selected, where the store
    has them. `records` are the store's cells, those of other requests among them. Keys: request
    (what was said of all cells, such as the preset), origin, cells, claims, inference, audit,
    cost, environment, neighbours (of cells of one's own).
    """
    once = Once(store)
    outcomes = {name: outcome_of(cell, plan, once) for name, cell in plan.cells.items()}
    selected = [cell for cell in plan.cells.values() if cell.selected]
    stages = list(dict.fromkeys(i for cell in selected for i in cell.stages))
    audited = {"comparison": plan.comparison, **audit(selected)}
    entries = cell_entries(plan.cells, outcomes)
    rows = neighbours(plan, once, records)
    for entry in entries:
        entry["effort"] = effort(plan.cells[entry["id"]], plan, once)
    return {
        "request": list(plan.said),
        "origin": origin(stages, once),
        "cells": entries,
        "claims": claim_entries(claims(), plan.cells, outcomes, audited, entries),
        "inference": inference(selected, plan.stages, once),
        "audit": audited,
        "cost": cost(stages, plan.stages, once),
        "environment": environment(stages, plan, outcomes, once, rows),
        "neighbours": rows,
    }
