"""One stage, from its recipe to its result on disk."""

from __future__ import annotations

import time
import traceback
from contextlib import suppress
from dataclasses import replace
from typing import Any

from .make import PACKAGE, make
from .schema import Interrupted, RequestError, Runtime, Stage, StageError, WorkerLost
from .stage.base import Kind, Result, StageWriter, inherited
from .stage.benchmark import benchmark_stage
from .stage.export import export_stage
from .stage.teacher_logits import teacher_logits_stage
from .stage.train import train_stage
from .store import Held, StageFolder, Store
from .store.lease import this_process
from .store.place.base import cannot_write
from .tracker.base import Tracker
from .worker_group import ALONE, WorkerGroup

KINDS: dict[str, Kind] = {
    "train": train_stage,
    "teacher_logits": teacher_logits_stage,
    "export": export_stage,
    "benchmark": benchmark_stage,
}


def run_stage(
    stage: dict[str, Any], runtime: dict[str, Any], group: WorkerGroup = ALONE
) -> dict[str, Any]:
    """Run a stage, or find that it is done: {"id", "status", "reason"}.

    status is done, not_converged, failed (the reason is in failure.json too) or held (another
    living process works on it). A stage that was interrupted goes on from its last checkpoint.
    Raises only when interrupted, and WorkerLost.

    Every worker of `group` calls it. Rank 0 holds the stage, writes, and says what has become of
    it; the others work along, write nothing, and raise what goes wrong with them.
    """
    spec, how = Stage.from_dict(stage), Runtime(**runtime)
    if group.rank:
        _work(spec, how, group, None)
        return {"id": spec.id, "status": "done", "reason": None}
    store = Store(how.output or how.store)
    folder = store.folder(spec.id)
    try:
        if (result := _finished(spec, store, how)) is not None:
            return _outcome(result)
        with folder.lease(this_process()):
            if (result := _finished(spec, store, how)) is not None:
                return _outcome(result)
            if folder.read_json("result.json") is not None and folder.result() is None:
                folder.log("result.json lacks status or metrics, so it does not count: run again")
            return _attempt(spec, how, folder, group, str(store.root))
    except Held as held:
        return {"id": spec.id, "status": "held", "reason": str(held)}
    except OSError as error:  # its lease could not be written, or not even why it failed
        return {"id": spec.id, "status": "failed", "reason": _one_line(error)}


def _work(
    spec: Stage, how: Runtime, group: WorkerGroup, writer: StageWriter | None
) -> Result | None:
    kind = str(spec.recipe.get("kind"))
    if kind not in KINDS:
        raise StageError(f"a stage of kind {kind!r} cannot be run: known are {', '.join(KINDS)}")
    return inherited(spec, how) or KINDS[kind](spec, how, group, writer)


def _finished(spec: Stage, store: Store, how: Runtime) -> dict[str, Any] | None:
    """The result of a stage that need not run; it must where its model is wanted, and gone."""
    return None if how.again or store.lacks_model(spec) else store.result(spec.id)


def _outcome(result: dict[str, Any]) -> dict[str, Any]:
    reason = (result.get("evidence") or {}).get("reason")
    return {"id": result["id"], "status": result["status"], "reason": reason}


def _attempt(
    spec: Stage, how: Runtime, folder: StageFolder, group: WorkerGroup, root: str
) -> dict[str, Any]:
    started = time.time()
    tracker = Tracker()
    try:
        if how.again:
            folder.remove("result.json")
            folder.drop_checkpoints()
        folder.remove("failure.json")
        spec = going_on(spec, folder)
        folder.write_json("stage.json", spec.as_dict())
        if how.tracker:
            tracker = make(how.tracker, how.allow_targets, Tracker)
        tracker.start(spec, root)
        result = _work(spec, how, group, StageWriter(folder, tracker)) or {}
        result |= {"started": started, "finished": time.time()}  # of this attempt
        folder.write_json("result.json", result)
        with suppress(OSError):  # the result stands; `gc` lists what is left
            folder.drop_checkpoints()
        tracker.finish(result)
        return _outcome(result)
    except Held:
        tracker.finish({"status": "interrupted"})
        raise
    except (Interrupted, WorkerLost, KeyboardInterrupt, SystemExit) as stop:
        with suppress(OSError):
            folder.log(f"interrupted: {stop!r}")
        tracker.finish({"status": "interrupted"})
        raise
    except Exception as error:
        reason = _one_line(error)
        failure = {"reason": reason, "where": _where(error), "time": time.time()}
        with suppress(OSError):  # a full disk is told to the driver all the same
            folder.log(traceback.format_exc())
            folder.write_json("failure.json", failure)
        tracker.finish({"status": "failed", "reason": reason})
        return {"id": spec.id, "status": "failed", "reason": reason}


def going_on(spec: Stage, folder: StageFolder) -> Stage:
    """The stage; where it resumes what other code of its method began, with both in its notes."""
    now = spec.notes.get("method_code")
    before = ((folder.read_json("stage.json") or {}).get("notes") or {}).get("method_code")
    if now is None or before is None or not folder.checkpoints() or before == now:
        return spec
    both = before if before.endswith(f", then {now}") else f"{before}, then {now}"
    return replace(spec, notes={**spec.notes, "method_code": both})


def _one_line(error: Exception) -> str:
    if told := cannot_write(error):
        return told
    text = " ".join(str(error).split())
    known = isinstance(error, StageError | RequestError)
    return text if known and text else f"{type(error).__name__}: {text}".rstrip(": ")


def _where(error: Exception) -> str:
    """The innermost place in this package that the error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"/{PACKAGE}/" in frame.filename] or frames
    name = ours[-1].filename.rpartition(f"/{PACKAGE}/")[2]
    return f"{PACKAGE}/{name}:{ours[-1].lineno} in {ours[-1].name}"
