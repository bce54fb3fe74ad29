"""What a store holds that no cell needs any more.

Results, records and logs always stay: they weigh little and cost hours. What goes are models, what
teachers said, and checkpoints. A stage whose model was freed is run again when a new one needs it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..store import StageFolder, Store
from ..store.place import FolderPlace, Place, place_at
from .ancestry import with_ancestors
from .dag import Plan
from .to_run import to_run

_MODELS = ("model", "logits")
_LOOK_SECONDS = 0.2  # between two looks at a lease
_OF_NO_STAGE = {
    "replay": "`obert-sweeps replay` makes it again",
    "copies": "folders of the bucket, fetched again when they are needed",
    "cache": "tokenised rows, made again when a stage needs them",
}


@dataclass(frozen=True)
class Garbage:
    """A folder that can go. `stage` is empty where it is no stage's."""

    stage: str
    name: str  # the stage's, for people
    what: str  # model, logits, checkpoint-<step>, replay, copies, cache, or a draft's name
    bytes: int
    reason: str


def held(store: Store) -> dict[str, str]:
    """Stage -> who runs it.

    Watches a lease until its holder is known to live or not: seconds, and 30 of one that a process
    left which is not of this machine, or of its boot (90 in a bucket).
    """
    states = {stage: store.folder(stage).lease_state() for stage in store.ids()}
    while unknown := [stage for stage, s in states.items() if s is not None and s.stale is None]:
        time.sleep(_LOOK_SECONDS)
        states |= {stage: store.folder(stage).lease_state() for stage in unknown}
    return {stage: str(s) for stage, s in states.items() if s is not None and not s.stale}


def find(plan: Plan, store: Store, running: Mapping[str, str]) -> list[Garbage]:
    """What can go, the largest first, as seen from the selected cells of `plan`.

    `running`: the store's `held` stages.
    Nothing of a stage that somebody runs, and no model of those it descends from; nothing of the
    last stage of a cell that the store has a record of, of whatever request. What else may be
    needed is not known where a selected cell is blocked: then no other request's stages are
    listed; and where a driver of another request runs a stage, of whose queue nothing is on disk:
    then no models are listed either.
    """
    others_run = running.keys() - plan.stages.keys()
    used = set(with_ancestors(running, lambda stage: _parents(stage, store)))
    used |= {record["stages"][-1] for record in store.cells() if record.get("stages")}
    known = not others_run and not any(cell.blocked for cell in plan.selected())
    waiting = {stage.id for stage in to_run(list(plan.stages.values()), store)}
    kept = _MODELS if others_run else ()
    found: list[Garbage] = []
    for stage in store.ids():
        if stage not in used:
            items = _of_stage(stage, plan, store, known, waiting)
            found += [item for item in items if item.what not in kept]
    for what, reason in _OF_NO_STAGE.items():
        if not running and (size := sum(p.size(name) for p, name in _where(what, store))):
            found.append(Garbage("", "", what, size, reason))
    return sorted(found, key=lambda item: -item.bytes)


def free(item: Garbage, store: Store) -> bool:
    """Remove it; whether it is gone, as what is being run by now stays. Needs no space."""
    if not item.stage:
        for place, name in _where(item.what, store):
            place.remove(name)
        return True
    folder = store.folder(item.stage)
    if folder.holder() is not None:
        return False
    if item.what == "model":
        folder.free_folder("model")
    else:
        folder.remove(item.what)
    return True


def _where(what: str, store: Store) -> list[tuple[Place, str]]:
    """The places of a folder that is no stage's, and what it is called there.

    Cached rows are a store of their own: in a bucket they lie there, with copies on this machine.
    """
    if what != "cache" or store.address == str(store.root):
        return [(FolderPlace(store.root), what)]
    copies = place_at(f"{store.address}/{what}").local
    return [(store.place, what), (FolderPlace(copies.parent), copies.name)]


def _of_stage(
    stage: str, plan: Plan, store: Store, known: bool, waiting: Collection[str]
) -> Iterator[Garbage]:
    """`waiting`: the stages that are to be run, some of them for their freed model alone."""
    folder, result = store.folder(stage), store.result(stage)
    planned = plan.stages.get(stage)
    name = planned.name if planned else str(_recorded(stage, store).get("name", ""))

    def item(what: str, reason: str) -> Garbage:
        return Garbage(stage, name, what, folder.size(what), reason)

    yield from (item(draft, "left by a process that was killed") for draft in folder.drafts())
    rest = folder.size("model.freed") - folder.size("model.freed/manifest.json")
    if folder.freed("model") and rest:
        yield Garbage(stage, name, "model", rest, "freed before, but not to its end")
    if result is not None:
        yield from (item(name, "its stage is finished") for name in folder.checkpoints())
    if planned is None and not known:
        return
    if result is None:
        if planned is None:
            reason = "unfinished, and of another request"
            yield from (item(name, reason) for name in (*folder.checkpoints(), *_model(folder)))
        return
    if planned is None:
        yield from (item(m, "of another request; its result stays") for m in _model(folder))
    elif stage not in {i for cell in plan.cells.values() for i in cell.finals.values()}:
        children = [s.id for s in plan.stages.values() if stage in s.parents.values()]
        if not any(child in waiting for child in children):
            reason = f"no cell's result, and all {len(children)} that go on from it are finished"
            yield from (item(m, reason) for m in _model(folder))


def _model(folder: StageFolder) -> list[str]:
    return [made for made in _MODELS if folder.has_folder(made)]


def _parents(stage: str, store: Store) -> list[str]:
    return list(_recorded(stage, store).get("parents", {}).values())


def _recorded(stage: str, store: Store) -> dict[str, Any]:
    return store.folder(stage).read_json("stage.json") or {}
