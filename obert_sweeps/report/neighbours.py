"""Cells of one's own beside others of the same store: a new method among its competitors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..catalogue.cell import primary_metric
from .means import mean_of_known, means
from .source import CellView, PlanView, StoreView, dense_stages, measured_sparsity
from .words import as_asked_for

Record = Mapping[str, Any]
Key = tuple[str, str, tuple[str, ...]]  # id, pattern and settings


def neighbours(plan: PlanView, store: StoreView, records: Iterable[Record]) -> list[dict[str, Any]]:
    """One row for each cell of `records` (STORE/cells) that an own cell of the plan compares with.

    These are of the same task and model and share a stage with it: the model they start from. A
    row: id, settings (of a cell, what not all the others have), method, sparsity (as asked for),
    measured_sparsity (None where no result says it), pattern, seeds,
    measured (means), recovery (share of the own cell's dense model, None without one), selected (it
    is of this request), stage (of its last seed). Ordered by task, sparsity and score, best first.
    """
    found: dict[Key, list[Record]] = {}
    dense: dict[Key, float | None] = {}
    chosen = [cell for cell in plan.cells.values() if cell.selected]
    selected = {final for cell in chosen for final in cell.finals.values()}
    own = [(cell, _dense_score(cell, plan, store)) for cell in chosen if cell.cell.table == 0]
    for record in records:
        for cell, score in own:
            alike = (record["task"], record["model"]) == (cell.cell.task, cell.cell.model)
            if alike and set(record["stages"]) & set(cell.stages):
                key = _key(record, store)
                found.setdefault(key, []).append(record)
                dense.setdefault(key, score)
                break
    rows = [_row(key, same, dense[key], selected, store) for key, same in found.items()]
    said = [set(row["settings"]) for row in rows if row["settings"]]
    common = set.intersection(*said) if len(said) > 1 else set()
    for row in rows:
        row["settings"] = [one for one in row["settings"] if one not in common]
    rows.sort(key=lambda row: (row["task"], _level(row), -_score(row)))
    return rows if len(rows) > 1 else []


def _key(record: Record, store: StoreView) -> Key:
    """What tells a row from others: the pattern by itself, for not every record says it."""
    said = (one for one in record.get("settings", ()) if not one.startswith("sparsity="))
    return record["id"], _pattern(record, store), tuple(said)


def _pattern(record: Record, store: StoreView) -> str:
    """As recorded; in records of before as its stages' recipes say; empty where none prunes."""
    if said := record.get("pattern"):
        return str(said)
    made_of = [stage for i in record["stages"] if (stage := store.stage(i))]
    found = [stage["recipe"].get("sparsity", {}).get("pattern", "dense") for stage in made_of]
    pruned = [pattern for pattern in found if pattern != "dense"]
    return str((pruned or [""])[-1])


def _row(
    key: Key, records: list[Record], dense: float | None, selected: set[str], store: StoreView
) -> dict[str, Any]:
    last = records[-1]
    results = [found for record in records if (found := store.result(record["stages"][-1]))]
    row = {name: last[name] for name in ("id", "task", "method", "sparsity")}
    measured = means(record["measured"] for record in records)
    score = measured.get(primary_metric(last["task"]))
    return row | {
        "settings": list(key[2]),
        "pattern": key[1],
        "measured_sparsity": mean_of_known(map(measured_sparsity, results))[0],
        "seeds": sorted(record["seed"] for record in records),
        "measured": measured,
        "recovery": score / dense if score is not None and dense else None,
        "selected": any(record["stages"][-1] in selected for record in records),
        "stage": last["stages"][-1],
    }


def _level(row: Mapping[str, Any]) -> float:
    """The sparsity asked for, where that was reached: what was measured is off by a few weights."""
    asked, share = row["sparsity"], row["measured_sparsity"]
    return float(asked if as_asked_for(share, asked) else share)


def _score(row: Mapping[str, Any]) -> float:
    return float(row["measured"].get(primary_metric(row["task"]), float("-inf")))


def _dense_score(cell: CellView, plan: PlanView, store: StoreView) -> float | None:
    made_of = dense_stages(cell, plan)
    result = store.result(made_of[-1]) if made_of else None
    score = ((result or {}).get("metrics") or {}).get(primary_metric(cell.cell.task))
    return None if score is None else float(score)
