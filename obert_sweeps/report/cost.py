"""What the stages cost, and what they ran on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from ..catalogue.cell import METHODS
from ..schema import Stage
from .source import CellPlan, Measured, StoreView

RATES = ("samples_per_second", "tokens_per_second", "padding_share", "tflops", "mfu")
SPENT = ("seconds", "cpu_seconds", "gpu_seconds")
PLACES = frozenset({"host", "hostname", "node", "pid", "ip"})  # may differ without harm


def cost(stage_ids: Iterable[str], stages: Mapping[str, Stage], store: StoreView) -> dict[str, Any]:
    """Totals, sums by kind of stage, and every stage; planned seconds beside actual ones.

    `rates` of a stage are those of its training; of a kind, the medians over its stages.
    """
    rows: list[dict[str, Any]] = []
    for stage_id in stage_ids:
        stage = stages.get(stage_id)
        result = store.result(stage_id)
        failed = result is None and store.failure(stage_id) is not None
        spent = (result or {}).get("cost") or {}
        rows.append(
            {
                "id": stage_id,
                "name": stage.name if stage else stage_id,
                "kind": stage.role_group if stage else "",
                "status": result.get("status", "done") if result else ("failed" if failed else "-"),
                "planned_seconds": float(stage.cost.get("seconds", 0.0)) if stage else 0.0,
                **{name: float(spent.get(name) or 0.0) for name in SPENT},
                "rates": (result or {}).get("rates") or {},
            }
        )
    by_kind: dict[str, dict[str, Any]] = {}
    for row in rows:
        kind = by_kind.setdefault(
            row["kind"],
            {"kind": row["kind"], "stages": 0, "done": 0, "planned_seconds": 0.0}
            | dict.fromkeys(SPENT, 0.0),
        )
        kind["stages"] += 1
        kind["done"] += row["status"] in ("done", "not_converged")
        for name in ("planned_seconds", *SPENT):
            kind[name] += row[name]
    for name, kind in by_kind.items():
        of_kind = [row["rates"] for row in rows if row["kind"] == name]
        kind["rates"] = {
            rate: median(values)
            for rate in RATES
            if (values := [rates[rate] for rates in of_kind if rate in rates])
        }
    totals = {name: sum(row[name] for row in rows) for name in (*SPENT, "planned_seconds")}
    done = [row for row in rows if row["status"] in ("done", "not_converged")]
    totals["planned_seconds_of_done"] = sum(row["planned_seconds"] for row in done)
    return {**totals, "by_kind": list(by_kind.values()), "stages": rows}


def environment(
    stage_ids: Iterable[str],
    plans: Mapping[str, CellPlan],
    measured: Mapping[str, Measured],
    store: StoreView,
) -> dict[str, Any]:
    """Every value each recorded key takes, and a warning where one comparison mixes them."""
    recorded = [(store.result(i) or {}).get("environment") for i in stage_ids]
    return {
        "values": {name: sorted(v) for name, v in sorted(_values(recorded).items())},
        "warnings": _warnings(plans, measured),
    }


def _values(recorded: Iterable[Mapping[str, Any] | None]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for environment in recorded:
        for name, value in _flat(environment or {}).items():
            found.setdefault(name, set()).add(value)
    return found


def _flat(environment: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in environment.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{key}.")
        elif value is not None:
            flat[key] = str(value)
    return flat


def _warnings(plans: Mapping[str, CellPlan], measured: Mapping[str, Measured]) -> list[str]:
    """One line for each task of a table whose results (and dense model) come from mixed places.

    What the document compares, it compares within a table and task.
    """
    rows: dict[Any, list[Any]] = {}
    names: dict[Any, dict[str, None]] = {}
    for name, plan in plans.items():
        if plan.cell.method == "dense" or not plan.selected:
            continue
        row = (plan.cell.table, plan.cell.task)
        of_row = rows.setdefault(row, [])
        for cell_id in (name, plan.cell.baseline):
            if cell_id is not None and cell_id in measured:
                of_row += [r.get("environment") for r in measured[cell_id].results]
        names.setdefault(row, {})[METHODS.get(plan.cell.method, plan.cell.method)] = None
    warnings = []
    for row, recorded in rows.items():
        mixed = {
            key: sorted(values)
            for key, values in _values(recorded).items()
            if len(values) > 1 and key.rpartition(".")[2] not in PLACES
        }
        if mixed:
            detail = "; ".join(f"{key}: {', '.join(values)}" for key, values in mixed.items())
            warnings.append(f"t{row[0]}/{row[1]} ({', '.join(names[row])}) mixes {detail}")
    return warnings
