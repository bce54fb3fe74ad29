"""A runner for tests: stages that write, fail, die or wait as their recipe says; no torch."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from obert_sweeps.store import Held, Store


def run_stage(stage: dict[str, Any], runtime: dict[str, Any]) -> dict[str, Any]:
    recipe = stage["recipe"]
    store = Store(runtime["store"], stale_after=runtime["checkpoint_seconds"], beat_seconds=0.2)
    folder = store.folder(stage["id"])
    try:
        with folder.lease(f"worker {os.getpid()}"):
            return _run(stage, runtime, recipe, store, folder)
    except Held as held:
        return {"id": stage["id"], "status": "held", "reason": str(held)}


def _run(stage: Any, runtime: Any, recipe: Any, store: Store, folder: Any) -> dict[str, Any]:
    folder.append({"step": 0, "pid": os.getpid(), "time": time.time()})
    if recipe.get("fail"):
        return {"id": stage["id"], "status": "failed", "reason": recipe["fail"]}
    if recipe.get("raise"):
        raise ArithmeticError(recipe["raise"])
    start = 0
    if (checkpoint := folder.latest_checkpoint()) is not None:
        start = int((checkpoint / "step").read_text())
    for step in range(start, recipe.get("steps", 1)):
        time.sleep(recipe.get("step_seconds", 0.0))
        with folder.new_checkpoint(step + 1) as part:
            (part / "step").write_text(str(step + 1))
        folder.append({"step": step + 1, "epoch": step + 1, "epochs": recipe.get("steps", 1)})
        if step + 1 in recipe.get("die_after", []) and step + 1 > start:
            os.kill(os.getpid(), signal.SIGKILL)
    value = stage["seed"] + sum(
        store.result(parent)["metrics"]["value"]  # type: ignore[index]
        for parent in stage["parents"].values()
    )
    result = {
        "id": stage["id"],
        "status": recipe.get("status", "done"),
        "metrics": {"value": value, "threads": runtime["threads"]},
    }
    folder.write_json("result.json", result)
    return {"id": stage["id"], "status": result["status"], "reason": None}
