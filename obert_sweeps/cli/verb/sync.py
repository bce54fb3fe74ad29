"""`sync`: rebuild the tracker's runs from the store; the same again changes nothing."""

from __future__ import annotations

from dataclasses import asdict

from ...amounts import counted
from ...make import make
from ...plan.compose import to_plain
from ...request.read import Loaded
from ...schema import RequestError
from ...store import Store
from ...tracker.base import Rebuilder, Tracker
from ...tracker.rebuild import FOLDER, Rebuilt, rebuild
from ..answer import answer, console, notice
from ..settings import store_of


def main(loaded: Loaded) -> int:
    store = store_of(loaded)
    tracker = make(to_plain(loaded.request.tracker), loaded.request.allow_targets, Tracker)
    if not store.ids():
        raise RequestError(f"{store.root} holds no stage. Name the store of a run: store=DIR")
    store.check_writable("sync")

    def rebuilder() -> Rebuilder:
        found = tracker.rebuilder(str(store.root))
        if found is None:
            raise RequestError("this tracker has no runs to rebuild. Use tracker=wandb")
        return found

    found = rebuild(store, rebuilder, notice)
    document = {"store": str(store.root), **asdict(found)}
    answer(loaded, document, lambda _: console().print(told(found, store)))
    return 1 if found.unwritten else 0


def told(found: Rebuilt, store: Store) -> str:
    """1 run written, 160 up to date, 2 stages running; and what is wrong."""
    parts = [f"{counted(found.written, 'run')} written", f"{found.there} up to date"]
    if found.running:
        parts.append(f"{counted(found.running, 'stage')} still running")
    line = f"{', '.join(parts)}: {store.root / FOLDER}"
    if found.unwritten:
        line += f"\n{found.unwritten} not written: {found.reason}. The same command goes on."
    return line
