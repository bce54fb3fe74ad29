"""The tracker's runs made again from the store: stages, cells and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..amounts import counted
from ..schema import RequestError, Stage
from ..store import StageFolder, Store
from ..store.lease import Held, this_process
from .base import Rebuilder

FOLDER = "wandb"  # below the store


@dataclass
class Rebuilt:
    """What became of the runs."""

    written: int = 0
    there: int = 0  # and as the store says
    running: int = 0  # stages whose runs are being written by others just now
    unwritten: int = 0
    reason: str | None = None  # why the rest was not written


def rebuild(store: Store, make: Callable[[], Rebuilder], say: Callable[[str], None]) -> Rebuilt:
    """Write every run of the store that is missing, not whole, or tells something else.

    `make` gives the rebuilder, once no other process rebuilds here. Stops at the first run that
    cannot be written: the next would not fare better, and each may take its time to fail.
    Raises RequestError where another process does the same just now.
    """
    owner = f"sync, {this_process()}"
    try:
        with Store(str(store.root)).lease(FOLDER, owner):  # the runs lie on this machine
            return _rebuild(store, make(), say)
    except Held as held:
        raise RequestError(
            f"the runs of {store.root} are being rebuilt by another process ({held}). Wait for it;"
            " it does the same."
        ) from held


def _rebuild(store: Store, rebuilder: Rebuilder, say: Callable[[str], None]) -> Rebuilt:
    found = Rebuilt()
    steps = [*_stages(store, rebuilder), *_cells(store, rebuilder)]
    steps += _report(store, rebuilder)
    for i, step in enumerate(steps):
        try:
            renewed = step()
        except Exception as error:
            found.reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            found.unwritten = len(steps) - i
            break
        if renewed is None:
            found.running += 1
            continue
        found.written += renewed
        found.there += not renewed
        if renewed and found.written % 50 == 0:
            say(f"{counted(found.written, 'run')} written, {i + 1} of {len(steps)} looked at")
    return found


Step = Callable[[], bool | None]  # whether a run was written; None: others write it just now


def _stages(store: Store, rebuilder: Rebuilder) -> Iterator[Step]:
    for stage_id in store.ids():
        folder = store.folder(stage_id)
        spec = folder.read_json("stage.json")
        if isinstance(spec, dict):
            yield partial(_stage, rebuilder, Stage.from_dict(spec), folder)


def _stage(rebuilder: Rebuilder, stage: Stage, folder: StageFolder) -> bool | None:
    # The holder of a stage writes its run, until after its result is there. Asked only now: the
    # runs before this one may have taken hours to upload.
    if folder.holder() is not None:
        return None
    return rebuilder.stage(stage, folder.records(), ended(folder))


def _cells(store: Store, rebuilder: Rebuilder) -> Iterator[Step]:
    for record in store.cells():
        yield partial(rebuilder.cell, record)


def _report(store: Store, rebuilder: Rebuilder) -> Iterator[Step]:
    folder = store.root / "report"
    if (folder / "report.json").is_file():
        yield partial(rebuilder.report, str(folder))


def ended(folder: StageFolder) -> dict[str, Any]:
    """How a stage that nobody works on has ended, as its tracker was told it."""
    result = folder.result()
    if isinstance(result, dict):
        return result
    failure = folder.read_json("failure.json")
    if isinstance(failure, dict):
        return {"status": "failed", "reason": failure["reason"]}
    return {"status": "interrupted"}
