"""Cells of one's own beside others of the same store: a new method among its competitors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from ..catalogue.cell import primary_metric
from .source import CellPlan, PlanView, StoreView

Record = Mapping[str, Any]


def neighbours(plan: PlanView, store: StoreView, records: Iterable[Record]) -> list[dict[str, Any]]:
    """One row for each cell of `records` (STORE/cells) that an own cell of the plan compares with.

    These are of the same task and model and share a stage with it: the model they start from. A
    row: id, method, sparsity, seeds, measured (means), recovery (share of the own cell's dense
    model, None without one), selected (it is of this request), stage (of its last seed). Ordered
    by task, sparsity and score, best first.
    """
    found: dict[str, list[Record]] = {}
    dense: dict[str, float | None] = {}
    selected = {name for name, cell in plan.cells.items() if cell.selected}
    own = [cell for cell in plan.cells.values() if cell.selected and cell.cell.table == 0]
    for record in records:
        for cell in own:
            alike = (record["task"], record["model"]) == (cell.cell.task, cell.cell.model)
            if alike and set(record["stages"]) & set(cell.stages):
                found.setdefault(record["id"], []).append(record)
                dense.setdefault(record["id"], _dense_score(cell, plan, store))
                break
    rows = [_row(same, dense[name], name in selected) for name, same in found.items()]
    rows.sort(key=lambda row: (row["task"], row["sparsity"], -_score(row)))
    return rows if len(rows) > 1 else []


def _row(records: list[Record], dense: float | None, selected: bool) -> dict[str, Any]:
    columns: dict[str, list[float]] = {}
    for record in records:
        for name, value in record["measured"].items():
            if value is not None:
                columns.setdefault(name, []).append(float(value))
    last = records[-1]
    row = {name: last[name] for name in ("id", "task", "method", "sparsity")}
    measured = {name: fmean(values) for name, values in columns.items()}
    score = measured.get(primary_metric(last["task"]))
    return row | {
        "seeds": sorted(record["seed"] for record in records),
        "measured": measured,
        "recovery": score / dense if score is not None and dense else None,
        "selected": selected,
        "stage": last["stages"][-1],
    }


def _score(row: Mapping[str, Any]) -> float:
    return float(row["measured"].get(primary_metric(row["task"]), float("-inf")))


def _dense_score(cell: CellPlan, plan: PlanView, store: StoreView) -> float | None:
    """Of the last dense model of the cell's task that it is made of."""
    for stage_id in reversed(cell.stages):
        tags = plan.stages[stage_id].tags
        if (tags.get("task"), tags.get("sparsity")) == (cell.cell.task, "dense"):
            metrics = (store.result(stage_id) or {}).get("metrics") or {}
            score = metrics.get(primary_metric(cell.cell.task))
            return None if score is None else float(score)
    return None
