"""`status`: what is done, running, failed, waiting or blocked, why, and what it weighs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from ..plan import Plan, make_plan
from ..request import Loaded
from ..schema import RequestError
from ..store import Store
from .answer import console, print_json

LOG_LINES = 20


def main(loaded: Loaded) -> int:
    store = Store(str(loaded.request.store))
    if loaded.request.stage is not None:
        return one_stage(loaded, store, find_stage(store, str(loaded.request.stage)))
    plan = make_plan(loaded)
    document = describe(plan, store)
    if loaded.request.format == "json":
        print_json(document)
    else:
        show(document)
    bad = any(s["state"] == "failed" for s in document["stages"]) or any(
        c["state"] == "blocked" for c in document["cells"]
    )
    return 1 if bad else 0


def find_stage(store: Store, prefix: str) -> str:
    """The stage in the store whose id starts so.

    Raises RequestError where none or several do.
    """
    found = [i for i in store.ids() if i.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise RequestError(
            f"no stage in {store.root} has an id that starts with '{prefix}'. "
            "See the ids with: obert-sweeps status"
        )
    raise RequestError(
        f"'{prefix}' fits {len(found)} stages: {', '.join(found[:5])} … Say more of it."
    )


def describe(plan: Plan, store: Store) -> dict[str, Any]:
    stages = [{"id": s.id, "name": s.name, **state_of(store, s.id)} for s in plan.wanted()]
    failed = {s["id"]: s for s in stages if s["state"] == "failed"}
    for stage, row in zip(plan.wanted(), stages, strict=True):
        broken = [p for p in stage.parents.values() if p in failed]
        if row["state"] == "waiting" and broken:
            row |= {"state": "blocked", "reason": f"parent {broken[0]} failed"}
            failed[stage.id] = row
    by_id = {s["id"]: s for s in stages}
    cells = []
    for planned in plan.selected():
        states = [by_id[i]["state"] for i in planned.stages]
        row = {"id": planned.cell.id, "done": states.count("done"), "stages": len(states)}
        if planned.blocked:
            row |= {"state": "blocked", "reason": planned.blocked}
        else:
            row |= {"state": worst(states)}
        cells.append(row)
    counts: dict[str, int] = {}
    for stage_row in stages:
        counts[stage_row["state"]] = counts.get(stage_row["state"], 0) + 1
    weight = sum(s["bytes"] for s in stages)
    return {"store": str(store.root), "counts": counts, "bytes": weight} | {
        "stages": stages,
        "cells": cells,
    }


def state_of(store: Store, stage_id: str) -> dict[str, Any]:
    """state: done, running, failed or waiting; with the reason or the progress."""
    folder = store.folder(stage_id)
    row: dict[str, Any] = {"bytes": size(folder.path)}
    result = store.result(stage_id)
    if result is not None:
        return row | {"state": "done", "status": result["status"], "metrics": result["metrics"]}
    lease = folder.lease_state()
    last = folder.last_record()
    if lease is not None and not lease.stale:
        holder = f"{lease.owner}, process {lease.pid} on {lease.host}"
        return row | {"state": "running", "holder": holder, "progress": last}
    failure = folder.read_json("failure.json")
    if failure is not None:
        return row | {
            "state": "failed",
            "reason": failure["reason"],
            "log": str(folder.path / "log.txt"),
        }
    return row | {"state": "waiting", "progress": last}


def worst(states: list[str]) -> str:
    return next((s for s in ("failed", "blocked", "running", "waiting") if s in states), "done")


def size(folder: Path) -> int:
    """Bytes below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def show(document: dict[str, Any]) -> None:
    out = console()
    table = Table("stage", "what", "state", "", box=None)
    for row in document["stages"]:
        table.add_row(row["id"][:8], row["name"], row["state"], detail(row))
    out.print(table)
    counts = ", ".join(f"{n} {state}" for state, n in document["counts"].items())
    out.print(f"\n{counts}; {document['bytes'] / 1e6:.1f} MB in {document['store']}")
    for cell in document["cells"]:
        if cell["state"] == "blocked":
            out.print(f"blocked  {cell['id']}: {cell.get('reason', 'a stage it needs failed')}")


def detail(row: dict[str, Any]) -> str:
    if row["state"] == "done":
        numbers = " ".join(
            f"{k} {v:.2f}" if v is not None else f"{k} undefined" for k, v in row["metrics"].items()
        )
        return numbers if row["status"] == "done" else f"{row['status']} {numbers}"
    if row["state"] in ("failed", "blocked"):
        return str(row["reason"])
    progress = row.get("progress") or {}
    if "step" in progress:
        return f"step {progress['step']} of {progress.get('steps', '?')}"
    return ""


def one_stage(loaded: Loaded, store: Store, stage_id: str) -> int:
    folder = store.folder(stage_id)
    stage = folder.read_json("stage.json") or {}
    log = folder.path / "log.txt"
    tail = log.read_text(errors="replace").splitlines()[-LOG_LINES:] if log.is_file() else []
    document = {
        "id": stage_id,
        "name": stage.get("name", ""),
        **state_of(store, stage_id),
        "parents": stage.get("parents", {}),
        "recipe": stage.get("recipe", {}),
        "seed": stage.get("seed"),
        "log_tail": tail,
        "replay": f"obert-sweeps replay stage={stage_id[:8]} store={store.root}",
        "read_at": time.time(),
    }
    if loaded.request.format == "json":
        print_json(document)
        return 0
    out = console()
    out.print(f"{stage_id}  {document['name']}\n{document['state']}  {detail(document)}")
    for role, parent in document["parents"].items():
        out.print(f"{role:<8} {parent}")
    out.print(json.dumps(document["recipe"], indent=2), soft_wrap=True)
    out.print("\n".join(tail), soft_wrap=True)
    out.print(f"again, in this process: {document['replay']}")
    return 0
