"""The program as a person runs it: table 1 on generated data, killed midway, looked at after.

Bit-equal is asked for: one machine, one thread a stage, one worker.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from offline_wandb import finished_runs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REQUEST = ["table=1", "cluster.checkpoint_seconds=0.5", "format=json"]


def command(verb: str, store: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "obert_sweeps", verb, *REQUEST, f"store={store}", *more]


def run(store: Path, *more: str, verb: str = "run") -> dict[str, Any]:
    done = subprocess.run(command(verb, store, *more), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def outcome(store: Path) -> dict[str, Any]:
    """What must be equal between runs: metrics, and the digest of every model file."""
    found = {}
    for result in sorted(store.glob("stages/*/result.json")):
        model = result.parent / "model"
        digests = {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(model.glob("*.safetensors"))
        }
        found[result.parent.name] = (json.loads(result.read_text())["metrics"], digests)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    store = tmp_path_factory.mktemp("inline") / "runs"
    report = run(store, "cluster=inline", "tracker=none")
    return {"store": store, "outcome": outcome(store), "report": report}


def wait_for(condition: Callable[[], Any], seconds: float) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def checkpoints(store: Path, role: str) -> list[Path]:
    """Checkpoints of unfinished stages with this role."""
    found = []
    for folder in store.glob("stages/*"):
        stage = folder / "stage.json"
        unfinished = stage.is_file() and not (folder / "result.json").exists()
        if unfinished and json.loads(stage.read_text())["tags"]["role"] == role:
            found += list(folder.glob("checkpoint-*"))
    return found


def workers_of(store: Path) -> list[psutil.Process]:
    """Living processes that hold a stage of this store."""
    pids = set()
    for lease in store.glob("stages/*/lease.*.json"):
        holder = json.loads(lease.read_text() or "{}")
        if holder.get("pid"):
            pids.add(holder["pid"])
    alive = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
        except psutil.NoSuchProcess:
            continue
    return alive


def family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def finished_times(store: Path) -> dict[str, float]:
    return {p.parent.name: p.stat().st_mtime for p in store.glob("stages/*/result.json")}


def test_killed_driver_resumes_to_the_same_bits(tmp_path, undisturbed) -> None:
    store = tmp_path / "runs"
    started = subprocess.Popen(
        command("run", store), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    wait_for(lambda: checkpoints(store, "dense"), 300)
    children = family(started.pid)
    before = finished_times(store)
    assert before, "the first stage is finished by now"
    started.kill()
    started.wait()
    wait_for(lambda: not workers_of(store), 10)

    run(store)
    assert outcome(store) == undisturbed["outcome"]
    after = finished_times(store)
    assert all(after[stage] == stamp for stage, stamp in before.items()), (
        "repeated a finished stage"
    )
    wait_for(lambda: not [p for p in children if p.is_running()], 90)


def test_killed_worker_goes_on_from_its_checkpoint(tmp_path, undisturbed) -> None:
    store = tmp_path / "runs"
    started = subprocess.Popen(
        command("run", store), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: checkpoints(store, "dense"), 300)
    victims = [p for p in workers_of(store) if p.pid != started.pid]
    assert victims
    for victim in victims:
        victim.kill()
    out, err = started.communicate(timeout=300)
    assert started.returncode == 0, err
    assert outcome(store) == undisturbed["outcome"]
    logs = "".join(p.read_text() for p in store.glob("stages/*/log.txt"))
    assert "going on from checkpoint" in logs
    assert [c["verdict"] for c in json.loads(out)["cells"]] == ["stand_in"] * 4


def test_an_interrupted_run_says_so_and_resumes(tmp_path, undisturbed) -> None:
    store = tmp_path / "runs"
    started = subprocess.Popen(
        command("run", store, "cluster=inline", "tracker=none"),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: checkpoints(store, "dense"), 300)
    started.send_signal(signal.SIGTERM)
    out, err = started.communicate(timeout=60)
    assert started.returncode == 143 and out == "" and "resumes" in err
    run(store, "cluster=inline", "tracker=none")
    assert outcome(store) == undisturbed["outcome"]


def test_nothing_to_do_is_quick_and_starts_neither_ray_nor_torch(undisturbed) -> None:
    code = (
        "import sys; from obert_sweeps.cli.door import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'ray'} & set(sys.modules); sys.exit(f'{heavy}' if heavy else code)"
    )
    begun = time.monotonic()
    again = subprocess.run(
        [sys.executable, "-c", code, *command("run", undisturbed["store"])[3:], "tracker=none"],
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    assert time.monotonic() - begun < 8
    assert json.loads(again.stdout)["cells"] == undisturbed["report"]["cells"]


def test_the_demo_shows_what_table_1_claims(undisturbed) -> None:
    cells = {c["id"].removeprefix("t1/squad/bert_base/"): c for c in undisturbed["report"]["cells"]}
    f1 = {name: cell["measured"]["f1"] for name, cell in cells.items()}
    assert f1["dense"] > 50, "the dense model is well above chance"
    assert f1["magnitude/2of4"] < f1["dense"] - 5, "pruning visibly hurts"
    assert f1["obert/2of4"] > f1["magnitude/2of4"]
    masks = [json.loads(p.read_text()) for p in undisturbed["store"].glob("stages/*/result.json")]
    assert sorted({round(m["sparsity"]["overall"], 6) for m in masks}) == [0.0, 0.5]


def test_replay_gives_the_recorded_metrics(undisturbed) -> None:
    status = run(undisturbed["store"], verb="status")
    stage = next(s["id"] for s in status["stages"] if s["name"].startswith("oneshot"))
    replay = [sys.executable, "-m", "obert_sweeps", "replay", f"stage={stage[:10]}"]
    replay += [f"store={undisturbed['store']}", "format=json"]
    done = subprocess.run(replay, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["metrics"] == document["recorded"]


def test_offline_runs_are_the_ones_promised(tmp_path, undisturbed) -> None:
    """A run a stage and a run a cell and seed; here W&B is rebuilt by running with a tracker."""
    store = tmp_path / "runs"
    report = run(store, "cluster=inline", "tracker=wandb")
    runs = finished_runs(store)
    stages = {p.parent.name for p in store.glob("stages/*/result.json")}
    cells = [r for r in runs.values() if r["job_type"] == "cell"]
    others = {i for i, r in runs.items() if r["job_type"] not in ("cell", "report")}
    assert stages == others
    assert [r["job_type"] for r in runs.values()].count("report") == 1
    assert sorted(r["name"] for r in cells) == sorted(c["id"] for c in report["cells"])
    for stage_id in stages:
        stage = json.loads((store / "stages" / stage_id / "stage.json").read_text())
        tracked = runs[stage_id]
        assert tracked["group"] == f"{stage['tags']['task']}/{stage['tags']['model']}"
        assert tracked["config"]["training"]["epochs"] == stage["recipe"]["training"]["epochs"]
        assert tracked["summary"]["status"] == "done"
    for cell in cells:
        measured = next(c["measured"] for c in report["cells"] if c["id"] == cell["name"])
        assert cell["group"] == "table 1"
        assert cell["summary"]["measured"] == pytest.approx(measured)
