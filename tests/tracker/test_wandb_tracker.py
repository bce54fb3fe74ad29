"""What the tracker promises, read back from W&B's own offline files."""

from __future__ import annotations

import inspect
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from offline_wandb import finished_runs

from obert_sweeps.schema import Interrupted, RequestError, Stage
from obert_sweeps.tracker import wandb_tracker
from obert_sweeps.tracker.base import Tracker
from obert_sweeps.tracker.none import NoTracker
from obert_sweeps.tracker.run_content import cell_run_id
from obert_sweeps.tracker.wandb_tracker import WandbTracker

RECIPE = {
    "kind": "train",
    "task": {"_target_": "obert_sweeps.task.glue.Glue", "name": "sst2"},
    "sparsity": {"pattern": "unstructured", "level": 0.9},
    "training": {"epochs": 2, "batch_size": 32},
}
CELL = {
    "id": "t4/sst2/bert_base/obert/90",
    "table": 4,
    "task": "sst2",
    "model": "bert_base",
    "method": "obert",
    "sparsity": 0.9,
    "seed": 42,
    "stages": ["aaaa1111", "bbbb2222"],
    "measured": {"accuracy": 91.5},
    "published": {"accuracy": 92.2},
    "difference": {"accuracy": -0.7},
    "verdict": "stand_in",
}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test sees a process in which nothing has gone wrong yet."""
    monkeypatch.setattr(wandb_tracker, "_reported", set())
    monkeypatch.setattr(wandb_tracker, "_open", [])


def stage(identity: str = "0123abcd0123abcd") -> Stage:
    return Stage(
        id=identity,
        name="gradual sst2 bert_base obert 90 seed 42",
        recipe=RECIPE,
        seed=42,
        parents={"start": "feedfeed", "teacher": "beefbeef"},
        tags={
            "task": "sst2",
            "model": "bert_base",
            "method": "obert",
            "sparsity": "90",
            "role": "prune",
        },
        notes={"source": "section 4", "assumed": {}},
    )


def training(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "steps": 40,
        "epoch": step / 20,
        "epochs": 2.0,
        "loss": 1 / (1 + step),
        "lr": 1e-4,
        "sparsity": 0.9,
        "samples_per_second": 100.0,
        "time": 1.0,
    }


def evaluation(step: int, accuracy: float) -> dict[str, Any]:
    return {"step": step, "epoch": step / 20, "metrics": {"accuracy": accuracy}, "time": 1.0}


RESULT = {
    "id": "0123abcd0123abcd",
    "status": "done",
    "metrics": {"accuracy": 91.5},
    "final_metrics": {"accuracy": 91.0},
    "sparsity": {"overall": 0.9, "layers": {"encoder.0": 0.9}},
    "cost": {"seconds": 12.5, "cpu_seconds": 12.0, "gpu_seconds": 0.0},
}


def test_a_stage_is_one_run_with_all_that_was_promised(tmp_path: Path) -> None:
    tracker = WandbTracker(project="pruning")
    tracker.start(stage(), str(tmp_path))
    for record in (training(10), evaluation(20, 80.0), training(20), evaluation(40, 91.5)):
        tracker.log(record)
    tracker.finish(RESULT)

    (run,) = finished_runs(tmp_path).values()
    assert run["id"] == stage().id
    assert run["project"] == "pruning"
    assert run["name"] == stage().name
    assert (run["group"], run["job_type"]) == ("sst2/bert_base", "prune")
    assert run["tags"] == ["sst2", "bert_base", "obert", "90"]
    config = run["config"]
    assert {key: config[key] for key in RECIPE} == RECIPE
    assert config["seed"] == 42
    assert config["parents"] == {"start": "feedfeed", "teacher": "beefbeef"}
    assert config["notes"]["source"] == "section 4"
    assert run["axes"]["train/*"] == run["axes"]["eval/*"] == "step"
    history = run["history"]
    assert sorted(history) == [10, 20, 40]
    assert history[10]["train/loss"] == pytest.approx(1 / 11)
    assert history[10]["step"] == 10
    assert history[20]["eval/accuracy"] == 80.0  # one row a step, training and evaluation alike
    assert history[20]["train/loss"] == pytest.approx(1 / 21)
    assert history[40] | {"epoch": 2.0, "eval/accuracy": 91.5} == history[40]
    summary = run["summary"]
    assert summary["status"] == "done"
    assert summary["metrics"] == {"accuracy": 91.5}
    assert summary["sparsity"] == 0.9
    assert summary["cost"]["cpu_seconds"] == 12.0
    assert run["exit_code"] == 0


def test_nothing_of_the_machine_or_its_user_is_written(tmp_path: Path) -> None:
    tracker = WandbTracker()
    tracker.start(stage(), str(tmp_path))
    tracker.finish(RESULT)
    tracker.cell(CELL, str(tmp_path))
    finished_runs(tmp_path)
    for path in tmp_path.glob("wandb/*/run-*.wandb"):
        data = path.read_bytes()
        for secret in (os.uname().nodename, sys.executable, str(Path.home()), str(tmp_path)):
            # A name of two letters turns up in any noise: as a field it follows its length.
            length = bytes([len(secret)]) if len(secret) < 6 else b""
            assert length + secret.encode() not in data, secret
    names = {path.name for path in tmp_path.glob("wandb/**/*") if path.is_file()}
    assert not names & {"requirements.txt", "wandb-metadata.json", "diff.patch", "output.log"}


def test_a_cell_and_seed_is_one_light_run(tmp_path: Path) -> None:
    WandbTracker().cell(CELL, str(tmp_path))
    (run,) = finished_runs(tmp_path).values()
    assert run["id"] == cell_run_id(CELL)
    assert (run["name"], run["group"], run["job_type"]) == (CELL["id"], "table 4", "cell")
    assert run["tags"] == ["sst2", "bert_base", "obert", "90"]
    assert run["config"]["stages"] == CELL["stages"]
    assert run["config"]["seed"] == 42
    for key in ("measured", "published", "difference", "verdict"):
        assert run["summary"][key] == CELL[key]
    assert run["exit_code"] == 0


def test_cell_ids_say_which_result_it_is() -> None:
    assert cell_run_id(CELL) == cell_run_id(json.loads(json.dumps(CELL)))
    assert cell_run_id(CELL) == cell_run_id(CELL | {"verdict": "worse", "measured": {}})
    assert cell_run_id(CELL) == cell_run_id(CELL | {"stages": CELL["stages"][::-1]})
    others = [
        cell_run_id(CELL | change) for change in ({"seed": 43}, {"id": "t5/x"}, {"stages": ["cc"]})
    ]
    assert len({cell_run_id(CELL), *others}) == 4


def test_one_worker_many_stages_nothing_mixed(tmp_path: Path) -> None:
    tracker = WandbTracker()
    tracker.start(stage("a" * 16), str(tmp_path))
    tracker.log(training(1))
    tracker.cell(CELL, str(tmp_path))  # beside an open stage
    tracker.log(training(2))
    tracker.start(stage("b" * 16), str(tmp_path))  # the first was interrupted: never finished
    tracker.log(training(7))
    tracker.finish({"status": "failed", "reason": "loss is nan"})
    tracker.log(training(8))  # nobody's
    tracker.finish(RESULT)

    runs = finished_runs(tmp_path)
    assert set(runs) == {"a" * 16, "b" * 16, cell_run_id(CELL)}
    assert sorted(runs["a" * 16]["history"]) == [1, 2]
    assert runs["a" * 16]["exit_code"] == 1
    assert sorted(runs["b" * 16]["history"]) == [7]
    assert runs["b" * 16]["summary"]["status"] == "failed"
    assert runs["b" * 16]["summary"]["reason"] == "loss is nan"
    assert runs["b" * 16]["exit_code"] == 1
    assert not runs[cell_run_id(CELL)]["history"]


def test_a_stage_tried_again_in_the_same_worker(tmp_path: Path) -> None:
    """The first try's tracker is gone, its run never ended; W&B refuses an id that is in use."""
    first, tracker = WandbTracker(), WandbTracker()
    first.start(stage(), str(tmp_path))
    tracker.start(stage(), str(tmp_path))
    tracker.log(training(5))
    first.finish(RESULT)  # too late, and no harm
    tracker.finish(RESULT)
    (run,) = finished_runs(tmp_path).values()
    assert len(run["folders"]) == 2
    assert sorted(run["history"]) == [5]
    assert run["exit_code"] == 0


CHILD = """
import json, os, signal, sys
from obert_sweeps.schema import Stage
from obert_sweeps.tracker.wandb_tracker import WandbTracker
stage, records, end = json.loads(sys.argv[2])
tracker = WandbTracker(mode=sys.argv[3])
tracker.start(Stage.from_dict(stage), sys.argv[1])
for record in records:
    tracker.log(record)
if end is None:
    import psutil, time
    time.sleep(6)  # W&B writes every few seconds
    print([child.pid for child in psutil.Process().children(recursive=True)], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
tracker.finish(end)
"""


def child(
    store: Path,
    records: list[dict[str, Any]],
    end: dict[str, Any] | None,
    mode: str = "offline",
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    payload = json.dumps([stage().as_dict(), records, end])
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(store), payload, mode],
        # Without W&B's names: no credentials, and a service of its own, not this process's.
        env={k: v for k, v in os.environ.items() if not k.startswith("WANDB_")} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_stdout_and_stderr_stay_clean(tmp_path: Path) -> None:
    done = child(tmp_path, [training(1)], RESULT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert finished_runs(tmp_path)[stage().id]["summary"]["status"] == "done"


def test_a_stage_asks_no_server_whatever_the_mode(tmp_path: Path) -> None:
    """No credentials, and a server that is not there: files all the same, and at once."""
    began = time.monotonic()
    home = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc")}
    done = child(
        tmp_path, [training(1)], RESULT, mode="online", WANDB_BASE_URL="http://127.0.0.1:9", **home
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - began < 12  # W&B waits 15 s for a server
    assert finished_runs(tmp_path)[stage().id]["history"][1]["train/loss"] == 0.5


@pytest.mark.slow
def test_killed_and_resumed_is_two_folders_and_one_run(tmp_path: Path) -> None:
    killed = child(tmp_path, [training(step) for step in range(1, 31)], None)
    assert killed.returncode == -9
    services = json.loads(killed.stdout)
    assert services, "W&B's service is expected to be a child process"
    resumed = child(
        tmp_path, [training(step) for step in range(21, 41)] + [evaluation(40, 91.5)], RESULT
    )
    assert resumed.returncode == 0, resumed.stderr

    runs = finished_runs(tmp_path)
    assert list(runs) == [stage().id]
    (run,) = runs.values()
    assert len(run["folders"]) == 2
    assert sorted(run["history"]) == list(range(1, 41))
    assert all(row["step"] == step for step, row in run["history"].items())
    assert run["exit_code"] == 0
    assert run["summary"]["metrics"] == {"accuracy": 91.5}

    deadline = time.monotonic() + 10
    while any(map(psutil.pid_exists, services)):
        assert time.monotonic() < deadline, "W&B's service has outlived its killed process"
        time.sleep(0.1)


def test_without_wandb_the_stage_goes_on_and_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            tracker = WandbTracker(mode="offline")
            tracker.start(stage(), str(tmp_path))
            tracker.log(training(1))
            tracker.finish(RESULT)
            tracker.cell(CELL, str(tmp_path))
    assert len(caplog.records) == 1
    assert "wandb" in caplog.text


class Broken:
    """A W&B run of which everything fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    whole, ended = True, False  # as of a run that is open

    def fail(self, *given: Any) -> None:
        raise self.error

    row = close = abandon = fail


def test_trouble_within_a_run_is_said_once_and_dropped(caplog: pytest.LogCaptureFixture) -> None:
    tracker, run = WandbTracker(), Broken(OSError("no space left on device"))
    tracker._run = run
    wandb_tracker._open.append(run)
    for step in range(100):
        tracker.log(training(step))
    assert [record.getMessage().count("no space left") for record in caplog.records] == [1]
    tracker.finish(RESULT)
    assert tracker._run is None and not wandb_tracker._open
    assert len(caplog.records) == 3  # and once for the summary, once for the end
    assert not run.whole


def test_a_signal_inside_wandb_is_not_swallowed() -> None:
    wrapped = RuntimeError("W&B was disturbed")
    wrapped.__cause__ = Interrupted(15)
    tracker = WandbTracker()
    for error in (Interrupted(15), wrapped):
        tracker._run = Broken(error)
        with pytest.raises(Interrupted):
            tracker.log(training(1))


def test_the_leaves_are_their_constructors(project_root: Path) -> None:
    leaf = yaml.safe_load((project_root / "conf/tracker/wandb.yaml").read_text())
    assert leaf.pop("_target_") == f"{WandbTracker.__module__}.{WandbTracker.__name__}"
    signature = inspect.signature(WandbTracker)
    assert leaf == {name: p.default for name, p in signature.parameters.items()}
    assert not [name for name in leaf if "key" in name or "token" in name]
    none = yaml.safe_load((project_root / "conf/tracker/none.yaml").read_text())
    assert none == {"_target_": f"{NoTracker.__module__}.{NoTracker.__name__}"}


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(RequestError, match="tracker=none"):
        WandbTracker(mode="disabled")
    with pytest.raises(RequestError, match="uploads nothing"):
        WandbTracker(runs_per_minute=0)


@pytest.mark.parametrize("verb", ["start", "log", "finish", "cell", "report", "rebuilder"])
def test_every_tracker_has_the_protocols_verbs(verb: str) -> None:
    protocol = inspect.signature(getattr(Tracker, verb))
    for tracker in (NoTracker, WandbTracker):
        assert inspect.signature(getattr(tracker, verb)).parameters == protocol.parameters
