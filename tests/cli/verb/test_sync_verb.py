"""The verb `sync`, and the uploads that `run` starts beside a sweep."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from obert_sweeps.cli.verb import run_uploads, sync
from obert_sweeps.cli.verb.run_uploads import Uploads
from obert_sweeps.request.read import read
from obert_sweeps.schema import RequestError
from obert_sweeps.store import Store
from obert_sweeps.tracker import wandb_tracker
from obert_sweeps.tracker.base import Rebuilder
from obert_sweeps.tracker.rebuild import rebuild


class Remembering(Rebuilder):
    """Writes what it has not seen before."""

    def __init__(self, fails: bool = False) -> None:
        self.seen: list[str] = []
        self.fails = fails

    def stage(self, stage: Any, records: Any, result: Any) -> bool:
        if self.fails:
            raise OSError("no  space\nleft")
        return self._see(f"{stage.id} {result['status']} {len(records)}")

    def cell(self, record: Any) -> bool:
        return self._see(record["id"])

    def report(self, folder: str) -> bool:
        return self._see("report")

    def _see(self, name: str) -> bool:
        new = name not in self.seen
        self.seen += [name] * new
        return new


@pytest.fixture
def store(tmp_path: Path) -> Store:
    there = Store(str(tmp_path))
    for name in ("a", "b", "c"):
        folder = there.folder(name)
        folder.write_json("stage.json", {"id": name, "name": name, "recipe": {}, "seed": 1})
        folder.append({"step": 1})
    there.folder("a").write_json("result.json", {"id": "a", "status": "done", "metrics": {}})
    there.folder("b").write_json("failure.json", {"reason": "a bug", "where": "x", "time": 0})
    there.write_cell({"id": "t5/x", "seed": 1})
    return there


@pytest.fixture
def remembers(monkeypatch: pytest.MonkeyPatch) -> Remembering:
    found = Remembering()
    monkeypatch.setattr(wandb_tracker.WandbTracker, "rebuilder", lambda tracker, store: found)
    return found


def test_it_tells_the_rebuilder_all_that_the_store_holds(
    store: Store, remembers: Remembering, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = read([f"store={store.root}", "format=json"])
    assert sync.main(loaded) == 0
    assert remembers.seen == ["a done 1", "b failed 1", "c interrupted 1", "t5/x"]
    answer = json.loads(capsys.readouterr().out)
    assert (answer["written"], answer["there"], answer["reason"]) == (4, 0, None)
    assert sync.main(read([f"store={store.root}"])) == 0
    assert "0 runs written, 4 up to date" in capsys.readouterr().out


def test_a_stage_that_was_begun_meanwhile_is_its_holder_s(store: Store) -> None:
    """It is not told as interrupted: uploads of the runs before it may take hours."""
    with ExitStack() as stack:

        class Slow(Remembering):
            def stage(self, stage: Any, records: Any, result: Any) -> bool:
                if not self.seen:
                    stack.enter_context(store.folder("c").lease("somebody"))
                return super().stage(stage, records, result)

        rebuilder = Slow()
        found = rebuild(store, lambda: rebuilder, print)
    assert rebuilder.seen == ["a done 1", "b failed 1", "t5/x"]
    assert (found.written, found.running, found.there) == (3, 1, 0)


def test_what_is_not_written_is_an_exit_code_and_a_reason(
    store: Store, remembers: Remembering, capsys: pytest.CaptureFixture[str]
) -> None:
    remembers.fails = True
    assert sync.main(read([f"store={store.root}"])) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "4 not written: OSError: no space left. The same command goes on." in told


@pytest.mark.parametrize(
    ("said", "why"), [("tracker=none", "tracker=wandb"), ("store=nowhere", "holds no stage")]
)
def test_what_cannot_be_is_refused(store: Store, said: str, why: str) -> None:
    with pytest.raises(RequestError, match=why):
        sync.main(read([f"store={store.root}" if "store" not in said else said, said]))


def uploads(tmp_path: Path, code: str, mode: str = "online") -> Uploads:
    found = Uploads(read([f"store={tmp_path}", f"tracker.mode={mode}"]), every_seconds=0.0)
    assert found._verb == ["sync", f"store={tmp_path}", f"tracker.mode={mode}"]
    assert found._command[-3:] == found._verb
    found._command = [sys.executable, "-c", f"print('at work'); {code}"]
    return found


def test_uploads_run_beside_one_at_a_time(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("WANDB_SERVICE", "this process's own")
    code = "import os, time; print(os.environ.get('WANDB_SERVICE')); time.sleep(0.5)"
    with uploads(tmp_path, code) as found:
        began = time.monotonic()
        for _ in range(5):
            found.look()
        assert time.monotonic() - began < 0.4  # nobody waits
        found.finish()
    assert (tmp_path / "wandb/sync.log").read_text().split() == ["at", "work", "None"] * 2
    assert capsys.readouterr().err == ""


def test_the_end_waits_so_long_and_says_what_to_type(tmp_path: Path, capsys: Any) -> None:
    for code in ("import time; time.sleep(60)", "raise SystemExit(1)"):
        began = time.monotonic()
        with uploads(tmp_path, code) as found:
            found.finish(seconds=1.0)
        assert time.monotonic() - began < 30  # not the sixty of the first; a start takes some
        assert f"To finish later: obert-sweeps sync store={tmp_path} tracker.mode=online" in (
            capsys.readouterr().err
        )


def test_offline_uploads_nothing(tmp_path: Path) -> None:
    with uploads(tmp_path, "pass", "offline") as found:
        found.look()
        found.finish()
    assert not (tmp_path / "wandb").exists()
    assert Uploads(read(["tracker=none"]))._wanted is False
    assert run_uploads.EVERY_SECONDS >= 30
