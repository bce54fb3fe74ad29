"""Plans in this process: events, results, failures, other drivers, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from plans import FAKE, VALUES, mixed, read_events, runtime, stage, start_driver

from obert_sweeps import sweep
from obert_sweeps.schema import Interrupted, RequestError, Runtime, Stage
from obert_sweeps.store import Store
from obert_sweeps.sweep.attempt import own_runtime
from obert_sweeps.sweep.events import Event

INLINE = {"runner": "inline", "held_seconds": 0.1}


def run(root: Path, stages: list[Stage]) -> list[Event]:
    events: list[Event] = []
    sweep.run_plan(stages, runtime(root), INLINE, events.append, (), FAKE)
    return events


def without_kills() -> list[Stage]:
    return [s for s in mixed() if s.id not in ("dies_once", "after")]


def test_every_stage_comes_to_its_end(tmp_path: Path) -> None:
    events = run(tmp_path, without_kills())
    ends = {e.stage: (e.kind, e.reason) for e in events if e.kind != "started"}
    assert len(ends) == len(without_kills())
    assert ends["bad"] == ("failed", "no such data")
    why = "parent stage bad failed: no such data"
    assert ends["under_bad"] == ends["deep_under_bad"] == ("blocked", why)
    assert ends["broken"][0] == "failed"
    assert ends["broken"][1].startswith("ArithmeticError: one divided by nothing (traceback in ")
    log = (tmp_path / "stages" / "broken" / "log.txt").read_text()
    assert "raise ArithmeticError" in log
    store = Store(str(tmp_path))
    for name in ("top", "left", "right", "bottom", "diverges"):
        assert ends[name] == ("finished", "")
        assert store.result(name)["metrics"]["value"] == VALUES[name]  # type: ignore[index]
    assert store.result("right")["metrics"]["threads"] == 2  # type: ignore[index]
    began = [e.stage for e in events if e.kind == "started"]
    assert len(began) == len(set(began)) == len(ends) - 2


def test_again_repeats_no_finished_stage(tmp_path: Path) -> None:
    run(tmp_path, without_kills())
    events = run(tmp_path, without_kills())
    assert {e.stage for e in events if e.kind == "started"} == {"bad", "broken"}
    finished = {e.stage: e.outcome["status"] for e in events if e.kind == "finished"}
    assert finished["diverges"] == "not_converged" and finished["top"] == "done"


def test_with_nothing_to_do_no_runner_is_imported(tmp_path: Path) -> None:
    run(tmp_path, [stage("top")])
    log = tmp_path / "events"
    driver = start_driver(tmp_path, log, [stage("top")])
    assert driver.communicate(timeout=60) == ("", "")  # the driver asserts that there is no Ray
    assert [(kind, name) for kind, name, *_ in read_events(log)] == [("finished", "top")]


def test_a_parent_finished_before_need_not_be_planned(tmp_path: Path) -> None:
    run(tmp_path, [stage("top", seed=4)])
    run(tmp_path, [stage("child", "top", seed=5)])
    assert Store(str(tmp_path)).result("child")["metrics"]["value"] == 9  # type: ignore[index]
    with pytest.raises(RequestError, match="nowhere"):
        run(tmp_path, [stage("orphan", "nowhere")])


def test_a_stage_of_another_driver_is_waited_for(tmp_path: Path) -> None:
    store = Store(str(tmp_path), stale_after=3.0, beat_seconds=0.05)
    let_go = threading.Event()
    holds = threading.Event()

    def other() -> None:
        with store.folder("shared").lease("driver X"):
            holds.set()
            let_go.wait(30)
            store.folder("shared").write_json(
                "result.json", {"id": "shared", "status": "done", "metrics": {"value": 50}}
            )

    thread = threading.Thread(target=other)
    thread.start()
    assert holds.wait(10)
    events: list[Event] = []

    def on_event(event: Event) -> None:
        events.append(event)
        if event.kind == "finished" and event.stage == "own":
            let_go.set()

    stages = [stage("shared", "long"), stage("long"), stage("child", "shared"), stage("own")]
    # `shared` is more urgent than `own`, found held, and the run goes on with the rest.
    sweep.run_plan(stages, runtime(tmp_path), INLINE, on_event, (), FAKE)
    thread.join()
    told = [(e.kind, e.stage) for e in events]
    assert told.index(("held", "shared")) < told.index(("finished", "own"))
    assert ("finished", "shared") in told and ("failed", "shared") not in told
    assert store.result("child")["metrics"]["value"] == 51  # type: ignore[index]
    assert "driver X" in next(e.reason for e in events if e.kind == "held")


def test_a_stage_that_another_driver_left_is_run(tmp_path: Path) -> None:
    store = Store(str(tmp_path), stale_after=3.0, beat_seconds=0.05)
    lease = store.folder("shared").lease("driver X")
    lease.__enter__()
    events: list[Event] = []

    def on_event(event: Event) -> None:
        events.append(event)
        if event.kind == "held":
            lease.__exit__(None, None, None)

    sweep.run_plan([stage("shared")], runtime(tmp_path), INLINE, on_event, (), FAKE)
    assert [e.kind for e in events] == ["started", "held", "started", "finished"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_run_and_gives_back_the_lease(tmp_path: Path, signum: int) -> None:
    before = signal.getsignal(signum)

    def on_event(event: Event) -> None:
        if event.kind == "started" and event.stage == "slow":
            threading.Timer(0.3, os.kill, (os.getpid(), signum)).start()

    stages = [stage("slow", steps=50, step_seconds=0.1), stage("next", "slow")]
    with pytest.raises(Interrupted) as stop:
        sweep.run_plan(stages, runtime(tmp_path), INLINE, on_event, (), FAKE)
    assert stop.value.exit_code == 128 + signum
    assert signal.getsignal(signum) == before
    store = Store(str(tmp_path))
    assert store.folder("slow").lease_state() is None
    assert store.result("slow") is None and store.ids() == ["slow"]
    assert store.folder("slow").latest_checkpoint() is not None


def test_under_nohup_a_closed_terminal_stops_nothing(tmp_path: Path) -> None:
    def on_event(event: Event) -> None:
        if event.kind == "started":
            os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        sweep.run_plan([stage("one")], runtime(tmp_path), INLINE, on_event, (), FAKE)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert Store(str(tmp_path)).result("one") is not None


def test_a_kill_and_the_same_again(tmp_path: Path) -> None:
    stages, log = [s for s in mixed() if s.id in ("dies_once", "diverges", "after")], tmp_path / "e"
    for expected in (-signal.SIGKILL, 0):
        driver = start_driver(tmp_path, log, stages, runner="inline")
        assert driver.wait(60) == expected
        driver.communicate()
    store = Store(str(tmp_path))
    assert store.result("after")["metrics"]["value"] == VALUES["after"]  # type: ignore[index]
    steps = [record["step"] for record in store.folder("dies_once").records()]
    assert steps == [0, 1, 2, 0, 3]  # from its checkpoint, not from the start
    started = [name for kind, name, *_ in read_events(log) if kind == "started"]
    assert sorted(started) == ["after", "dies_once", "dies_once", "diverges"]


def test_an_unknown_runner() -> None:
    with pytest.raises(RequestError, match="cluster=inline"):
        sweep.run_plan([stage("a")], Runtime("x"), {"runner": "slurm"}, print)


def test_threads_and_device_follow_from_the_stage() -> None:
    own = own_runtime(stage("a", cpu=4.0), Runtime("x", device="auto"))
    assert (own.threads, own.device) == (4, "cpu")
    gpu = Stage("a", "a", {}, 0, resources={"cpu": 0.5, "gpu": 0.5})
    assert own_runtime(gpu, Runtime("x", device="auto")).device == "cuda"
    assert own_runtime(gpu, Runtime("x", device="cpu")).device == "cpu"
    assert own_runtime(gpu, Runtime("x")).threads == 1


def test_the_driver_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys, obert_sweeps.sweep, obert_sweeps.sweep.inline, obert_sweeps.sweep.progress\n"
        "print([m for m in ('torch', 'ray', 'transformers', 'numpy') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout == "[]\n"
