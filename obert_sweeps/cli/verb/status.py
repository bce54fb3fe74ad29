"""`status`: what is done, running, failed, waiting or blocked, why, and what it weighs."""

from __future__ import annotations

import time
from typing import Any

from ...plan.cost import seconds_left
from ...plan.dag import Plan, make_plan
from ...plan.to_run import to_run
from ...request.read import Loaded
from ...schema import Stage
from ...store import StageFolder, Store
from ..answer import answer, typed
from ..beside import other_cells, other_stages, request_of
from ..caveats import tell_gone
from ..settings import store_of
from .status_view import show, show_stage

LOG_LINES = 20
EVALUATIONS = 8  # the last ones


def main(loaded: Loaded) -> int:
    store = store_of(loaded)
    if loaded.request.stage is not None:
        one = one_stage(store, store.id_of(str(loaded.request.stage)))
        answer(loaded, one, show_stage)
        return 1 if one["state"] == "failed" else 0
    plan = make_plan(loaded, store)
    tell_gone(plan)
    document = describe(plan, store)
    answer(loaded, document, show)
    bad = any(s["state"] == "failed" for s in document["stages"]) or any(
        c["state"] == "blocked" for c in document["cells"]
    )
    return 1 if bad else 0


def describe(plan: Plan, store: Store) -> dict[str, Any]:
    """What `format=json` prints: counts, bytes, seconds_left, and every stage and cell."""
    rows = {stage.id: row_of(stage, store) for stage in plan.wanted()}
    pending = {stage.id for stage in to_run(plan.wanted(), store)}
    # Of the others those have no result that are only for students who are done: see `to_run`.
    wanted = [s for s in plan.wanted() if s.id in pending or rows[s.id]["state"] == "done"]
    stages = [rows[stage.id] for stage in wanted]
    for row in stages:
        if row["state"] == "done" and row["id"] in pending:
            row["remark"] = "its model is gone, and made again for a stage to come"
    failed = {s["id"]: s for s in stages if s["state"] == "failed"}
    for stage, row in zip(wanted, stages, strict=True):
        broken = [p for p in stage.parents.values() if p in failed]
        if row["state"] == "waiting" and broken:
            row |= {"state": "blocked", "reason": f"parent {broken[0]} failed"}
            failed[stage.id] = row
    by_id = {s["id"]: s for s in stages}
    cells = []
    for planned in plan.selected():
        states = [by_id[i]["state"] for i in planned.stages if i in by_id]
        row = {"id": planned.cell.id, "done": states.count("done"), "stages": len(states)}
        if planned.blocked:
            row |= {"state": "blocked", "reason": planned.blocked}
        else:
            row |= {"state": worst(states)}
        cells.append(row)
    counts: dict[str, int] = {}
    for stage_row in stages:
        counts[stage_row["state"]] = counts.get(stage_row["state"], 0) + 1
    return {
        "store": store.address,
        "counts": counts,
        "bytes": sum(s["bytes"] for s in stages),
        "seconds_left": work_left(stages),
        "stages": stages,
        "cells": cells,
        "others": others(plan, store),
    }


def others(plan: Plan, store: Store) -> dict[str, Any]:
    """What the store holds of other requests: stages, and the recorded own cells."""
    stages = []
    for stage in other_stages(plan, store):
        name = (store.folder(stage).read_json("stage.json") or {}).get("name", "")
        stages.append({"id": stage, "name": name, **state_of(store, stage)})
    own = [record for record in other_cells(plan, store) if not record.get("table", 0)]
    cells = [
        {
            "id": record["id"],
            "settings": record.get("settings", []),  # records of before had none
            "seed": record["seed"],
            "measured": record["measured"],
            "stage": record["stages"][-1],
            "request": request_of(record, store, own),
        }
        for record in own
    ]
    return {"stages": stages, "bytes": sum(s["bytes"] for s in stages), "cells": cells}


def row_of(stage: Stage, store: Store) -> dict[str, Any]:
    """How a planned stage stands, what it was expected to take and, while it runs, has left."""
    kind = stage.tags.get("role", "")
    planned = float(stage.cost.get("seconds", 0.0))
    row: dict[str, Any] = {"id": stage.id, "name": stage.name, "kind": kind}
    row |= {"planned_seconds": planned, **state_of(store, stage.id)}
    if row["state"] == "running":
        row["seconds_left"] = seconds_left(stage, row["progress"])
    return row


def work_left(stages: list[dict[str, Any]]) -> float | None:
    """Seconds of stages still to come, by the plan and by what the finished ones took of it.

    It is work, not time: workers share it. None before the first stage is finished.
    """
    done = [s for s in stages if s["state"] == "done" and s["planned_seconds"]]
    planned = sum(s["planned_seconds"] for s in done)
    if not planned:
        return None
    pace = sum(s["seconds"] for s in done) / planned
    left = 0.0
    for row in stages:
        told = row.get("seconds_left")
        if row["state"] in ("running", "waiting") or "remark" in row:
            left += pace * row["planned_seconds"] if told is None else told
    return left


def state_of(store: Store, stage_id: str) -> dict[str, Any]:
    """state: done, running, failed or waiting; with the reason or the progress."""
    folder = store.folder(stage_id)
    row: dict[str, Any] = {"bytes": folder.size()}
    result = store.result(stage_id)
    if result is not None:
        seconds = float((result.get("cost") or {}).get("seconds") or 0.0)
        row |= {"state": "done", "status": result["status"], "seconds": seconds}
        return row | {"metrics": result["metrics"]}
    holder, last = folder.holder(), folder.last_record()
    if holder is not None:
        return row | {"state": "running", "holder": str(holder), "progress": last}
    failure = folder.read_json("failure.json")
    if failure is not None:
        return row | {
            "state": "failed",
            "reason": failure["reason"],
            "log": folder.where("log.txt"),
        }
    return row | {"state": "waiting", "progress": last}


def worst(states: list[str]) -> str:
    return next((s for s in ("failed", "blocked", "running", "waiting") if s in states), "done")


def evaluations(folder: StageFolder) -> list[dict[str, Any]]:
    """Each evaluation's metrics, with the loss and the sparsity recorded last before it."""
    found: list[dict[str, Any]] = []
    trained: dict[str, Any] = {}
    for record in folder.records():
        if "loss" in record:
            trained = {key: record.get(key) for key in ("loss", "sparsity")}
        if "metrics" in record:
            found.append({"epoch": None, "step": None, **trained, **record})
    return found


def one_stage(store: Store, stage_id: str) -> dict[str, Any]:
    folder = store.folder(stage_id)
    stage = folder.read_json("stage.json") or {}
    return {
        "id": stage_id,
        "name": stage.get("name", ""),
        **state_of(store, stage_id),
        "parents": stage.get("parents", {}),
        "evaluations": evaluations(folder)[-EVALUATIONS:],
        "recipe": stage.get("recipe", {}),
        "seed": stage.get("seed"),
        "log_tail": folder.log_tail(LOG_LINES),
        "replay": f"obert-sweeps replay stage={stage_id[:8]} {typed('store', store.address)}",
        "read_at": time.time(),
    }
