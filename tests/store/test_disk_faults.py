"""A disk that is full or read-only: what is said, what is kept, and that the same again goes on."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from full_disk import full_disk
from tiny_stage import one_shot, run, runtime, stage, weights

from obert_sweeps import sweep
from obert_sweeps.cli import door
from obert_sweeps.schema import Interrupted, RequestError, Runtime, Stage
from obert_sweeps.store import Store
from obert_sweeps.store.place import FolderPlace
from obert_sweeps.store.place.base import cannot_write
from obert_sweeps.sweep.events import Event
from obert_sweeps.trial import run_stage


@pytest.fixture
def disk() -> Iterator[Path]:
    with full_disk(20 * 2**20) as root:
        yield root


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def fill(disk: Path, room: int) -> Path:
    """Ballast that leaves `room` bytes."""
    ballast, block = disk / "ballast", bytes(2**12)
    with ballast.open("wb", buffering=0) as file:
        with pytest.raises(OSError, match="No space left"):
            while True:
                file.write(block)
        file.truncate(max(0, file.tell() - room))
    return ballast


def drafts(root: Path) -> list[Path]:
    return list(root.rglob(".*.part"))


# 0 bytes: not even the lease. 20 kB: stage.json, and no checkpoint. 700 kB: some checkpoints.
@pytest.mark.parametrize("room", [0, 20_000, 700_000])
def test_a_full_disk_fails_the_stage_says_what_to_do_and_the_same_again_goes_on(
    tmp_path: Path, disk: Path, room: int
) -> None:
    calm = run(tmp_path, stage("dense"))
    root = disk / "runs"
    ballast = fill(disk, room)
    how = runtime(root, checkpoint_seconds=0.0)
    told = run_stage(stage("dense"), how)
    assert told["status"] == "failed"
    assert "No space left on device" in told["reason"] and "obert-sweeps gc" in told["reason"]
    store = Store(str(root))
    assert store.result("dense") is None and drafts(root) == []
    assert store.folder("dense").records() is not None  # what is there can be read
    ballast.unlink()
    assert run_stage(stage("dense"), how)["status"] == "done"
    result = store.result("dense")
    assert result is not None and result["metrics"] == calm["metrics"]
    ours, theirs = weights(root, "dense"), weights(tmp_path, "dense")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert not (root / "stages/dense/failure.json").exists()


def test_a_driver_on_a_full_disk_ends_with_every_stage_accounted_for(disk: Path) -> None:
    plan = [Stage.from_dict(stage("dense")), Stage.from_dict(one_shot())]
    events: list[Event] = []
    (disk / "runs").mkdir()
    fill(disk, 0)
    how = Runtime(**runtime(disk / "runs"))
    sweep.run_plan(plan, how, {"runner": "inline"}, events.append, ())
    ends = {e.stage: (e.kind, e.reason) for e in events if e.kind != "started"}
    assert ends["dense"][0] == "failed" and "No space left" in ends["dense"][1]
    assert ends["pruned"][0] == "blocked"


def test_a_disk_that_becomes_read_only_fails_the_stage_and_the_same_again_goes_on(
    disk: Path, tmp_path: Path
) -> None:
    root = disk / "runs"
    run(root, stage("dense"))
    remount(disk, "ro")
    try:
        told = run_stage(one_shot(), runtime(root))
        assert told["status"] == "failed" and "Read-only file system" in told["reason"]
        with pytest.raises(RequestError, match="Read-only file system"):
            Store(str(root)).check_writable()
        assert Store(str(root)).result("dense") is not None
    finally:
        remount(disk, "rw")
    assert run_stage(one_shot(), runtime(root))["status"] == "done"


def test_a_full_disk_is_refused_before_anything_starts(disk: Path) -> None:
    fill(disk, 0)
    with pytest.raises(RequestError, match="No space left on device"):
        Store(str(disk / "runs")).check_writable()


def test_the_door_says_it_in_words(
    disk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(disk, 0)

    def main(given: list[str]) -> int:
        Store(str(disk / "runs")).write_cell({"id": "t5/cola/dense", "seed": 1, "x": "y" * 5000})
        return 0

    monkeypatch.setattr(door, "_dispatch", main)
    assert door.main(["run"]) == 1
    err = capsys.readouterr().err
    assert "error: the store cannot be written: No space left on device" in err and "gc" in err


def test_an_interruption_on_a_full_disk_is_still_one(disk: Path, monkeypatch: Any) -> None:
    root = disk / "runs"
    run(root, stage("dense"))

    def fault(*_: Any, **__: Any) -> None:
        fill(disk, 0)
        raise Interrupted(15)

    monkeypatch.setattr("obert_sweeps.stage.train.train", fault)
    with pytest.raises(Interrupted):
        run_stage(one_shot(), runtime(root))


def test_a_library_that_finds_the_disk_full_is_understood_where_a_little_is_left(
    tmp_path: Path, monkeypatch: Any
) -> None:
    def save(*_: Any, **__: Any) -> None:
        raise RuntimeError("Error: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("obert_sweeps.stage.train.save", save)
    reason = run_stage(stage("dense"), runtime(tmp_path))["reason"]
    assert reason.startswith("the store cannot be written: No space left") and "gc" in reason


@pytest.mark.parametrize("verb", ["status", "plan", "report", "gc", "doctor"])
def test_what_may_not_be_read_is_named(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(str(tmp_path)).folder("dense").write_json("result.json", {})

    def read(place: FolderPlace, name: str, last: int | None = None) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(place.path / name))

    monkeypatch.setattr(FolderPlace, "read", read)
    assert door.main([verb, "cells=t5/sst2/bert_base/dense", f"store={tmp_path}"]) == 1
    told = capsys.readouterr()
    text = " ".join((told.out + told.err).split())
    assert "Permission denied" in text and "chmod" in text and "Traceback" not in text


def test_a_fault_without_a_file_names_none() -> None:
    told = cannot_write(OSError(errno.ENOSPC, "No space left on device"))
    assert told is not None and "None" not in told and "cannot be written" in told
