"""A stage in other hands: waited for while it is worked on, taken over when it was left."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from plans import stage

from obert_sweeps.schema import Stage
from obert_sweeps.store import Store
from obert_sweeps.store import lease as leases
from obert_sweeps.sweep.events import Event
from obert_sweeps.sweep.ledger import Ledger

DONE = {"id": "shared", "status": "done", "metrics": {}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def held(store: Store, *stages: Stage) -> tuple[Ledger, list[str]]:
    """A ledger of a plan whose stage `shared` was found held, and the events that follow."""
    told: list[str] = []
    ledger = Ledger(stages, store, lambda event: told.append(_told(event)), held_seconds=0.0)
    ledger.frontier.started("shared")
    ledger.ended("shared", {"id": "shared", "status": "held", "reason": "by driver X"})
    return ledger, told


def _told(event: Event) -> str:
    return f"{event.kind} {event.stage}"


def lease_of(store: Store, alive: bool) -> None:
    """A lease that a process of this machine took; not `alive`: it was killed before its end."""
    start = leases.process_start(os.getpid())
    said = {"owner": "driver X", "machine": leases.machine(), "pid": os.getpid(), "counter": 0}
    said["process_start"] = start if alive else 1
    path = store.folder("shared").path
    path.mkdir(parents=True, exist_ok=True)
    (path / "lease.1.json").write_text(json.dumps(said))


def test_what_a_killed_driver_left_is_ours_again(store: Store) -> None:
    ledger, _ = held(store, stage("shared"))
    lease_of(store, alive=True)
    ledger.look_at_held()
    assert ledger.frontier.state["shared"] == "held"
    lease_of(store, alive=False)
    ledger.look_at_held()
    assert ledger.frontier.state["shared"] == "ready"


def test_a_model_that_another_driver_makes_again_is_waited_for(store: Store) -> None:
    """Its result is there from before, and the model that our stage goes on from is not."""
    shared = Stage("shared", "shared", {"kind": "train"}, 1)
    store.folder("shared").write_json("result.json", DONE)
    ledger, told = held(store, shared, stage("child", "shared"))
    lease_of(store, alive=True)
    ledger.look_at_held()
    assert ledger.frontier.state == {"shared": "held", "child": "waiting"}
    with store.folder("shared").new_folder("model") as part:
        (part / "weights").write_text("w")
    ledger.look_at_held()
    assert ledger.frontier.state == {"shared": "done", "child": "ready"}
    assert told == ["held shared", "finished shared"]
