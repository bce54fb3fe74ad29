"""`sync`: runs made again from the store are those that were written while it trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from offline_wandb import finished_runs
from tiny_stage import one_shot, run, runtime, stage

from obert_sweeps.schema import RequestError
from obert_sweeps.store import Store
from obert_sweeps.tracker import rebuild as module
from obert_sweeps.tracker import wandb_rebuild, wandb_tracker
from obert_sweeps.tracker.base import Tracker
from obert_sweeps.tracker.rebuild import Rebuilt, ended, rebuild
from obert_sweeps.tracker.wandb_tracker import WandbTracker
from obert_sweeps.trial import run_stage

WANDB = {"_target_": "obert_sweeps.tracker.wandb_tracker.WandbTracker"}
STOPWATCH = {"_runtime", "_wandb.runtime"}  # W&B's own, of the process that wrote
CELL = {
    **{"id": "t5/sst2/bert_base/obert/90", "table": 5, "task": "sst2", "model": "bert_base"},
    **{"method": "obert", "sparsity": 0.9, "seed": 3, "stages": ["dense", "pruned"]},
    **{"measured": {"accuracy": 91.5}, "published": {"accuracy": 92.2}, "verdict": "stand_in"},
}
REPORT = {
    "cells": [
        {
            **{"id": CELL["id"], "table": 5, "finals": {"3": "pruned"}, "verdict": "stand_in"},
            **{"measured": {"accuracy": 91.5}, "published": {"accuracy": 92.2, "f1": None}},
            **{"sd": {"accuracy": None}, "recovery": 0.98, "published_recovery": 1.0},
        }
    ],
    "claims": [{"id": "c", "verdict": "held"}],
}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_tracker, "_reported", set())
    monkeypatch.setattr(wandb_tracker, "_open", [])


def sync(path: Path) -> Rebuilt:
    tracker = WandbTracker()
    return rebuild(Store(str(path)), lambda: tracker.rebuilder(str(path)), lambda line: None)


def content(path: Path) -> dict[str, Any]:
    """All that W&B's files say, but for its stopwatch and where they lie."""
    runs = finished_runs(path)
    for found in runs.values():
        del found["folders"]
        for row in [*found["history"].values(), found["summary"]]:
            for name in STOPWATCH:
                row.pop(name, None)
    return runs


def folders(path: Path) -> list[str]:
    return sorted(f.name for f in path.glob("wandb/*run-*"))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as a sweep leaves it: done, pruned, failed; a cell; a report."""
    path = tmp_path_factory.mktemp("swept")
    run(path, stage("dense"), tracker=WANDB, log_seconds=0.0)
    run(path, one_shot(), tracker=WANDB)
    broken = stage("broken", task={"rows": "many"})
    assert run_stage(broken, runtime(path, tracker=WANDB))["status"] == "failed"
    WandbTracker().cell(CELL, str(path))
    Store(str(path)).write_cell(CELL)
    (path / "report").mkdir()
    (path / "report/report.json").write_text(json.dumps(REPORT))
    (path / "report/report.html").write_text("<p>report")
    (path / "report/notes.txt").write_text("the user's own")
    WandbTracker(mode="online").report(str(path / "report"), str(path))  # in files all the same
    return path


@pytest.fixture
def store(swept: Path, tmp_path: Path) -> Path:
    shutil.copytree(swept, tmp_path / "store")
    return tmp_path / "store"


def test_what_a_live_sweep_wrote_is_left_as_it_is(store: Path) -> None:
    before = content(store)
    assert set(before) >= {"dense", "pruned", "broken"} and len(before) == 5
    names = folders(store)
    assert sync(store) == Rebuilt(written=0, there=5)
    assert folders(store) == names and content(store) == before


def test_deleted_and_rebuilt_is_the_same_and_again_no_change(store: Path) -> None:
    before = content(store)
    shutil.rmtree(store / "wandb")
    assert sync(store) == Rebuilt(written=5, there=0)
    assert content(store) == before
    names = folders(store)
    assert len(names) == len(before)
    assert sync(store) == Rebuilt(written=0, there=5)
    assert folders(store) == names and content(store) == before


def test_what_was_killed_and_resumed_becomes_one_whole_run(store: Path) -> None:
    """W&B has the rows of two starts in two folders, and none of them has all."""
    whole = content(store)["dense"]
    for old in store.glob("wandb/*-dense*"):
        shutil.rmtree(old)
    spec = Store(str(store)).folder("dense")
    records = spec.records()
    for part in (records[:2], records[2:]):
        tracker = WandbTracker()
        tracker.start(module.Stage.from_dict(spec.read_json("stage.json")), str(store))
        for record in part:
            tracker.log(record)
        if part is records[2:]:
            tracker.finish(spec.read_json("result.json"))
    wandb_tracker.WandbTracker()._leave_all()
    assert len(list(store.glob("wandb/*-dense*"))) == 2
    assert sync(store) == Rebuilt(written=1, there=4)
    assert len(list(store.glob("wandb/*-dense*"))) == 1
    assert content(store)["dense"] == whole


def test_a_lost_row_or_another_result_is_written_anew(store: Path) -> None:
    (file,) = store.glob("wandb/*-dense/told.json")
    file.unlink()  # as after a kill, or where W&B failed in between
    Store(str(store)).write_cell(CELL | {"verdict": "reproduced"})
    assert sync(store) == Rebuilt(written=2, there=3)
    runs = content(store)
    assert [r["summary"]["verdict"] for r in runs.values() if r["job_type"] == "cell"] == [
        "reproduced"
    ]
    assert len(folders(store)) == len(runs) == 5


def test_a_pruned_stage_shows_its_masks(store: Path) -> None:
    pruned = finished_runs(store)["pruned"]
    row = pruned["history"][max(pruned["history"])]
    page = next(store.glob("wandb/*-pruned/files/" + row["masks/by_layer.path"])).read_text()
    layers = Store(str(store)).result("pruned")["sparsity"]["layers"]
    assert all(name in page for name in layers) and "empty outputs" in page
    assert sum(row["masks/sparsity_of_matrices.values"]) == len(layers) == 12
    dense = finished_runs(store)["dense"]["history"]
    assert not any("masks" in name for row in dense.values() for name in row)


def test_the_summary_run_has_the_verdicts_and_the_files(store: Path) -> None:
    (run,) = [r for r in finished_runs(store).values() if r["job_type"] == "report"]
    assert run["summary"]["verdicts"] == {"stand_in": 1} and run["summary"]["claims"]["c"] == "held"
    assert set(run["summary"]["files"]) == {"report.json", "report.html"}
    assert run["artifacts"] == {"report": {"report.json", "report.html", "cells.table.json"}}
    other = REPORT | {"cells": [REPORT["cells"][0] | {"finals": {"4": "pruned"}}]}
    (store / "report/report.json").write_text(json.dumps(other))
    assert sync(store).written == 1
    runs = finished_runs(store)
    assert [r["job_type"] for r in runs.values()].count("report") == 1  # one summary run


def test_a_stage_that_runs_is_its_holder_s(store: Path) -> None:
    shutil.rmtree(store / "wandb")
    with Store(str(store)).folder("dense").lease("somebody"):
        found = sync(store)
    assert (found.running, found.written) == (1, 4)
    assert "dense" not in finished_runs(store)


def test_how_a_stage_has_ended(store: Path) -> None:
    there = Store(str(store))
    assert ended(there.folder("dense"))["status"] == "done"
    assert set(ended(there.folder("broken"))) == {"status", "reason"}
    assert ended(there.folder("never")) == {"status": "interrupted"}


def test_two_at_once_are_refused(store: Path) -> None:
    with Store(str(store), beat_seconds=0.05).lease("wandb", "another"):
        with pytest.raises(RequestError, match="another"):
            sync(store)


def test_it_stops_at_the_first_that_fails_and_loses_nothing(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store / "wandb").rename(store / "other")
    made: list[str] = []

    class Full(wandb_rebuild.WandbRun):
        def row(self, row: Any) -> None:
            made.append(self.told.run)
            if len(made) > 3:
                raise OSError("no space left on device")
            super().row(row)

    monkeypatch.setattr(wandb_rebuild, "WandbRun", Full)
    found = sync(store)
    assert found.unwritten >= 3 and "no space left" in (found.reason or "")
    assert len(folders(store)) == found.written  # no half run is left
    monkeypatch.undo()
    monkeypatch.setattr(wandb_tracker, "_open", [])
    assert sync(store).written == 5 - found.written


def test_no_tracker_has_no_runs() -> None:
    assert Tracker().rebuilder("store") is None
