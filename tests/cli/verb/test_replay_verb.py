"""`replay`: what it says when it did not come to its end."""

from __future__ import annotations

import json
import os
import signal

import pytest

from obert_sweeps import trial
from obert_sweeps.cli.door import main
from obert_sweeps.schema import Stage
from obert_sweeps.store import Store

DENSE = Stage("dense", "dense seed 1", {"kind": "train"}, 1, {})


@pytest.fixture
def request_of(tmp_path):
    result = {"id": "dense", "status": "done", "metrics": {"f1": 50.0}}
    folder = Store(str(tmp_path)).folder("dense")
    folder.write_json("stage.json", DENSE.as_dict())
    folder.write_json("result.json", result)
    Store(str(tmp_path / "replay")).folder("dense").write_json("result.json", result)
    return ["replay", "stage=dense", f"store={tmp_path}"]


def test_an_earlier_replay_is_not_told_as_this_one(request_of, monkeypatch, capsys) -> None:
    outcome = {"id": "dense", "status": "failed", "reason": "no such column"}
    monkeypatch.setattr(trial, "run_stage", lambda stage, runtime: outcome)
    assert main([*request_of, "format=json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["metrics"] is None and told["recorded"] == {"f1": 50.0}
    assert main(request_of) == 1
    out = capsys.readouterr().out
    assert "now       failed" in out and "no such column" in out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_gives_the_stage_back_and_promises_no_resuming(
    request_of, tmp_path, monkeypatch, capsys, number
) -> None:
    again = Store(str(tmp_path / "replay")).folder("dense")

    def run_stage(stage, runtime):
        with again.lease("me"):
            os.kill(os.getpid(), number)
            raise AssertionError("went on")

    monkeypatch.setattr(trial, "run_stage", run_stage)
    assert main(request_of) == 128 + number
    assert again.holder() is None
    err = capsys.readouterr().err
    assert "from its beginning" in err and "resumes" not in err
