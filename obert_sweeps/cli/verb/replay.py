"""`replay`: one stage again, in this process, without Ray, into STORE/replay/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ...request.read import Loaded
from ...schema import Interrupted, RequestError, Stage
from ...store import Store
from ...sweep.attempt import own_runtime
from ...sweep.signals import interruptible
from ..answer import answer, console, notice
from ..settings import runtime_of, store_of


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
    lost = [p for p in stage.parents.values() if lacks_model(p, store)]
    if lost:
        raise RequestError(
            f"stage {stage_id} needs the models of {', '.join(lost)}, which gc has freed or "
            f"somebody has deleted. Delete {store.folder(stage_id).where('result.json')} and run "
            "again: all are made anew."
        )
    runtime = own_runtime(stage, runtime_of(loaded))
    runtime.tracker = {}
    runtime.output = str(store.root / "replay")
    runtime.again = True
    notice(f"replaying {stage.name} into {runtime.output}")
    try:
        with interruptible():
            from ...trial import run_stage  # torch starts here

            outcome = run_stage(stage.as_dict(), asdict(runtime))
    except Interrupted as stop:
        notice(f"{stop}. The same command replays the stage from its beginning.")
        return stop.exit_code
    ended = outcome["status"] in ("done", "not_converged")
    again = Store(runtime.output).result(stage_id) if ended else None  # else an earlier replay's
    before = store.result(stage_id)
    document = {
        "id": stage_id,
        "outcome": outcome,
        "metrics": (again or {}).get("metrics"),
        "recorded": (before or {}).get("metrics"),
    }
    answer(loaded, document, lambda told: show(stage.name, told))
    return 0 if ended else 1


def lacks_model(stage_id: str, store: Store) -> bool:
    recorded = store.folder(stage_id).read_json("stage.json")
    return recorded is not None and store.lacks_model(Stage.from_dict(recorded))


def show(name: str, document: Mapping[str, Any]) -> None:
    reason = document["outcome"].get("reason")
    now = document["metrics"]
    now = document["outcome"]["status"] if now is None else now
    console().print(
        f"{name}\nnow       {now}\nrecorded  {document['recorded']}"
        + (f"\n{reason}" if reason else "")
    )
