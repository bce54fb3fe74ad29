"""Driver and trial, killed before and after each change to the store: the next run ends alike."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from killed_writes import in_child, of_requests
from s3_server import s3_server
from sweep.plans import stage as fake

from obert_sweeps import sweep
from obert_sweeps.schema import Runtime, Stage
from obert_sweeps.store import Store
from obert_sweeps.sweep.attempt import RUN_STAGE
from obert_sweeps.sweep.events import Event

FAKE = "sweep.fake_stages:run_stage"
INLINE = {"runner": "inline", "held_seconds": 0.1}


def run(root: Path | str, stages: list[Stage], run_stage: str, how: Runtime) -> None:
    """What a driver does: stages one after another, and a record for each that is finished."""
    store = Store(str(root))

    def on_event(event: Event) -> None:
        assert event.kind in ("started", "finished"), event
        if event.kind == "finished":
            store.write_cell({"id": event.stage, "seed": 1, "outcome": event.outcome["status"]})

    sweep.run_plan(stages, how, INLINE, on_event, (), run_stage)


def outcome(root: Path | str) -> dict[str, Any]:
    """What must not depend on kills: results, models to the bit, records and cells."""
    store, found = Store(str(root)), {}
    held = {name: store.folder(name).lease_state() for name in store.ids()}
    for name in store.ids():
        folder = store.folder(name)
        result = store.result(name) or {}
        weights = sorted((folder.path / "model").glob("*.safetensors"))
        found[name] = {
            "result": {k: result.get(k) for k in ("status", "metrics", "steps", "sparsity")},
            "weights": [hashlib.sha256(path.read_bytes()).hexdigest() for path in weights],
            "steps": [record["step"] for record in folder.records() if "metrics" in record],
            "failure": store.failure(name),
            "held": held[name] is not None and not held[name].stale,  # type: ignore[union-attr]
        }
    return {"stages": found, "cells": store.cells()}


def kill_at_each(
    tmp_path: Path, work: Callable[[Path], None], every: int = 1
) -> tuple[int, dict[str, Any]]:
    """Kill at each change, run again, compare; the number of changes, and the common outcome."""
    calm = tmp_path / "calm"
    changes = in_child(work, calm)
    assert changes is not None
    expected = outcome(calm)
    for number in range(0, changes, every):
        root = tmp_path / str(number)
        assert in_child(work, root, number) is None, "it was not killed"
        before = {s: (root / f"stages/{s}/result.json") for s in Store(str(root)).ids()}
        stamps = {s: path.stat().st_mtime_ns for s, path in before.items() if path.exists()}
        again = in_child(work, root)
        assert again is not None
        assert outcome(root) == expected, f"killed before change {number}"
        for name, stamp in stamps.items():  # what was finished is not done again
            assert before[name].stat().st_mtime_ns == stamp
    assert in_child(work, calm) == 3 * len(expected["cells"])  # its files alone
    return changes, expected


def test_stages_without_torch(tmp_path: Path) -> None:
    plan = [fake("top", steps=3), fake("left", "top", seed=2), fake("bottom", "left", steps=1)]

    def work(root: Path) -> None:
        run(root, plan, FAKE, Runtime(str(root), checkpoint_seconds=30.0))

    changes, expected = kill_at_each(tmp_path, work)
    assert changes > 75 and len(expected["stages"]) == 3
    assert expected["stages"]["bottom"]["result"]["metrics"]["value"] == 1 + (2 + 1)  # seeds


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_stages_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each start is another machine: nothing but the bucket is left of the one that was killed."""
    plan = [fake("top", steps=2), fake("left", "top", seed=2, steps=1)]

    def work(address: str) -> None:
        machine = tmp_path / uuid.uuid4().hex
        os.environ["XDG_CACHE_HOME"] = str(machine)
        run(address, plan, FAKE, Runtime(address, checkpoint_seconds=3.0))
        shutil.rmtree(machine, ignore_errors=True)  # made where something was appended

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "looking-on"))
    with s3_server(monkeypatch) as bucket:
        calm = f"{bucket}/calm"
        changes = in_child(work, calm, watch=of_requests)
        assert changes is not None and changes > 20
        expected = outcome(calm)
        for number in range(changes):
            address = f"{bucket}/{number}"
            assert in_child(work, address, number, of_requests) is None, "it was not killed"
            assert in_child(work, address, watch=of_requests) is not None
            assert outcome(address) == expected, f"killed before change {number}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_stages_that_train_and_prune(tmp_path: Path) -> None:
    """A dense stage and a gradually pruned one, with a checkpoint after each step."""
    from tiny_stage import MAGNITUDE, runtime, stage  # torch, which the forks above do without

    short = {
        "epochs": 1,
        "task": {"rows": 16},
        "learning_rate": [{"until": 1, "initial": 0.01, "final": 0.0}],
    }
    plan = [
        Stage.from_dict(stage("dense", **json.loads(json.dumps(short)))),
        Stage.from_dict(
            stage(
                "pruned",
                {"start": "dense"},
                method=MAGNITUDE,
                sparsity={"pattern": "unstructured", "level": 0.5},
                pruning={"start": 0, "end": 0.5, "every": 0.5, "initial": 0.3},
                **json.loads(json.dumps(short)),
            )
        ),
    ]

    def work(root: Path) -> None:
        how = Runtime(**runtime(root, checkpoint_seconds=0.0, log_seconds=1e9))
        run(root, plan, RUN_STAGE, how)

    work(tmp_path / "warm")  # everything is imported before the first fork
    changes, expected = kill_at_each(tmp_path, work)
    assert changes > 75
    assert expected["stages"]["pruned"]["result"]["sparsity"]["overall"] == pytest.approx(0.5, 0.01)
