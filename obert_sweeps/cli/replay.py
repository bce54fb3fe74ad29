"""`replay`: one stage again, in this process, without Ray, into STORE/replay/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..request import Loaded
from ..schema import RequestError, Stage
from ..store import Store
from ..sweep.attempt import own_runtime
from .answer import answer, console, notice
from .settings import runtime_of, store_of


def main(loaded: Loaded) -> int:
    if loaded.request.stage is None:
        raise RequestError("replay needs a stage: replay stage=ID. See the ids with: status")
    store = store_of(loaded)
    stage_id = store.id_of(str(loaded.request.stage))
    recorded = store.folder(stage_id).read_json("stage.json")
    if recorded is None:
        raise RequestError(f"stage {stage_id} has no stage.json in {store.address}: run it first.")
    stage = Stage.from_dict(recorded)
    needed = {role: p for role, p in stage.parents.items() if role != "logits"}  # made again
    missing = [p for p in needed.values() if store.result(p) is None]
    if missing:
        raise RequestError(f"stage {stage_id} needs {', '.join(missing)}, not finished: run first.")
    freed = [p for p in stage.parents.values() if store.folder(p).freed("model")]
    if freed:
        raise RequestError(
            f"stage {stage_id} needs the models of {', '.join(freed)}, which gc has freed. Delete "
            f"{store.folder(stage_id).where('result.json')} and run again: all are made anew."
        )
    runtime = own_runtime(stage, runtime_of(loaded))
    runtime.tracker = {}
    runtime.output = str(store.root / "replay")
    runtime.again = True
    notice(f"replaying {stage.name} into {runtime.output}")
    from ..trial import run_stage  # torch starts here

    outcome = run_stage(stage.as_dict(), asdict(runtime))
    again = Store(runtime.output).result(stage_id)
    before = store.result(stage_id)
    document = {
        "id": stage_id,
        "outcome": outcome,
        "metrics": (again or {}).get("metrics"),
        "recorded": (before or {}).get("metrics"),
    }
    answer(loaded, document, lambda told: show(stage.name, told))
    return 0 if outcome["status"] in ("done", "not_converged") else 1


def show(name: str, document: Mapping[str, Any]) -> None:
    reason = document["outcome"].get("reason")
    console().print(
        f"{name}\nnow       {document['metrics']}\nrecorded  {document['recorded']}"
        + (f"\n{reason}" if reason else "")
    )
