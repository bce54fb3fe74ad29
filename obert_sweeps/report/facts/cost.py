"""What the stages cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from ...schema import Stage
from .views import StoreView

RATES = ("samples_per_second", "tokens_per_second", "padding_share", "tflops", "mfu")
SPENT = ("seconds", "cpu_seconds", "gpu_seconds")


def cost(stage_ids: Iterable[str], stages: Mapping[str, Stage], store: StoreView) -> dict[str, Any]:
    """Totals, sums by kind of stage, and every stage; planned seconds beside actual ones.

    `rates` of a stage are those of its training; of a kind, the medians over its stages.
    """
    rows = [_row(stage_id, stages.get(stage_id), store) for stage_id in stage_ids]
    planned_of_done = [row["planned_seconds"] for row in rows if _is_done(row)]
    return {
        **{name: sum(row[name] for row in rows) for name in (*SPENT, "planned_seconds")},
        "planned_seconds_of_done": sum(planned_of_done),
        "by_kind": [
            _of_kind(kind, [row for row in rows if row["kind"] == kind])
            for kind in dict.fromkeys(row["kind"] for row in rows)
        ],
        "stages": rows,
    }


def _row(stage_id: str, stage: Stage | None, store: StoreView) -> dict[str, Any]:
    result = store.result(stage_id)
    failed = result is None and store.failure(stage_id) is not None
    spent = (result or {}).get("cost") or {}
    return {
        "id": stage_id,
        "name": stage.name if stage else stage_id,
        "kind": stage.role_group if stage else "",
        "status": result.get("status", "done") if result else ("failed" if failed else "-"),
        "planned_seconds": float(stage.cost.get("seconds", 0.0)) if stage else 0.0,
        **{name: float(spent.get(name) or 0.0) for name in SPENT},
        "rates": (result or {}).get("rates") or {},
    }


def _is_done(row: Mapping[str, Any]) -> bool:
    return row["status"] in ("done", "not_converged")


def _of_kind(kind: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "kind": kind,
        "stages": len(rows),
        "done": sum(map(_is_done, rows)),
        **{name: sum(row[name] for row in rows) for name in ("planned_seconds", *SPENT)},
        "rates": {
            rate: median(values)
            for rate in RATES
            if (values := [row["rates"][rate] for row in rows if rate in row["rates"]])
        },
    }
