"""Uploading, against a server on loopback: every run once, and trouble costs no training."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from offline_wandb import finished_runs
from tiny_stage import one_shot, run, runtime, stage
from tracker.test_rebuild import CELL, REPORT, WANDB
from wandb_server import WandbServer, wandb_server

from obert_sweeps.store import Store
from obert_sweeps.tracker.run_content import cell_run_id, report_run_id
from obert_sweeps.tracker.wandb_tracker import WandbTracker
from obert_sweeps.trial import run_stage

KEY = "0" * 40
ONLINE = WANDB | {"mode": "online"}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as a sweep with tracker.mode=online leaves it, before its uploads."""
    path = tmp_path_factory.mktemp("swept")
    run(path, stage("dense"), tracker=ONLINE, log_seconds=0.0)
    run(path, one_shot(), tracker=ONLINE)
    WandbTracker(mode="online").cell(CELL, str(path))
    Store(str(path)).write_cell(CELL)
    (path / "report").mkdir()
    (path / "report/report.json").write_text(json.dumps(REPORT))
    return path


@pytest.fixture
def store(swept: Path, tmp_path: Path) -> Path:
    shutil.copytree(swept, tmp_path / "store")
    return tmp_path / "store"


def sync(store: Path, url: str, *said: str, key: str = KEY) -> dict[str, Any]:
    """What `sync tracker.mode=online format=json` answers, in a process of its own."""
    names = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    home = store.parent / "home"
    home.mkdir(exist_ok=True)
    names |= {"WANDB_BASE_URL": url, "WANDB_API_KEY": key, "HOME": str(home)}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "obert_sweeps", "sync", f"store={store}", "format=json"),
            *("tracker.mode=online", "tracker.runs_per_minute=6000", *said),
        ],
        env=names,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (0, 1), done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if answer["unwritten"] else 0)
    return answer


def told(server: WandbServer) -> dict[str, Any]:
    """What a server holds of each run: rows and summary, without W&B's stopwatch."""

    def clean(row: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in row.items() if k not in ("_runtime", "_wandb", "_step")}

    return {
        name: ([clean(row) for row in server.history(name)], clean(run["summary"]))
        for name, run in server.runs.items()
    }


@pytest.mark.slow
def test_every_run_goes_online_once(store: Path) -> None:
    expected = finished_runs(store)
    with wandb_server() as server:
        found = sync(store, server.url)
        assert (found["written"], found["there"], found["unwritten"]) == (4, 0, 0)
        names = {"dense", "pruned", cell_run_id(CELL), report_run_id(REPORT)}
        assert set(server.runs) == names
        dense = server.runs["dense"]
        steps = [row["_step"] for row in server.history("dense")]
        assert steps == sorted(set(steps)) == sorted(expected["dense"]["history"])
        assert dense["exit_code"] == 0 and dense["summary"]["status"] == "done"
        assert (dense["groupName"], dense["jobType"]) == (
            expected["dense"]["group"],
            expected["dense"]["job_type"],
        )
        assert any("masks/by_layer" in row for row in server.history("pruned"))
        assert server.artifacts == [{"report.json", "cells.table.json"}]
        first, asked = told(server), len(server.requests)

        again = sync(store, server.url)
        assert (again["written"], again["there"]) == (0, 4) and len(server.requests) == asked

        shutil.rmtree(store / "wandb")  # the server still has them
        assert sync(store, server.url)["written"] == 4
        assert told(server) == first
        assert [path.name.split("-")[0] for path in store.glob("wandb/*run-*")] == ["run"] * 4


@pytest.mark.slow
def test_half_an_upload_is_gone_on_with(store: Path) -> None:
    with wandb_server() as server:
        sync(store, server.url)
        whole = told(server)
        history = server.runs["dense"]["history"]
        for line in sorted(history)[2:]:
            del history[line]
        server.runs["dense"]["summary"] = {}
        for folder in store.glob("wandb/*-dense*"):
            shutil.rmtree(folder)
        sync(store, server.url)
        assert told(server) == whole


@contextmanager
def trouble(kind: str) -> Iterator[str]:
    if kind == "unreachable":
        yield "http://127.0.0.1:9"
    else:
        with wandb_server(int(kind)) as server:
            yield server.url


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unreachable", "429", "401", "500"])
def test_trouble_stops_the_upload_soon_and_loses_nothing(store: Path, kind: str) -> None:
    before = finished_runs(store)
    began = time.monotonic()
    with trouble(kind) as url:
        found = sync(store, url)
    assert time.monotonic() - began < 55  # one start of W&B's, not one for each run
    assert (found["written"], found["unwritten"]) == (0, 4) and found["reason"]
    assert finished_runs(store) == before
    with wandb_server() as server:
        assert sync(store, server.url)["written"] == 4


@pytest.mark.slow
def test_no_key_is_said(store: Path) -> None:
    found = sync(store, "http://127.0.0.1:9", key="")
    assert found["unwritten"] == 4 and "wandb login" in found["reason"]


def test_trouble_is_nothing_to_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never answers in time: the stage takes what it takes without one."""
    with wandb_server(429) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        seconds = {}
        for name, leaf in (("offline", WANDB), ("online", ONLINE), ("without", {})):
            began = time.monotonic()
            spec = stage(name)
            assert run_stage(spec, runtime(tmp_path, tracker=leaf))["status"] == "done"
            seconds[name] = time.monotonic() - began
        assert server.requests == []  # so no server can hold it up
    assert seconds["online"] < seconds["offline"] + 2.0, seconds
    runs = finished_runs(tmp_path)
    assert set(runs) == {"offline", "online"}
    assert len(runs["online"]["history"]) == len(runs["offline"]["history"])


def test_uploads_are_paced(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rebuilder = WandbTracker(mode="online", runs_per_minute=600).rebuilder(str(store))
    began = time.monotonic()
    for _ in range(6):
        rebuilder._wait()
    assert 0.5 <= time.monotonic() - began < 2.0  # the first at once, the others 0.1 s apart
