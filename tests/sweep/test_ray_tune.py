"""Plans on a real Ray: the same results as inline, kills, signals, other drivers, quiet."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from plans import VALUES, mixed, read_events, stage, start_driver
from processes import processes_with, reap, wait_until

from obert_sweeps.schema import RequestError
from obert_sweeps.store import Store


@pytest.mark.slow
def test_ray_gives_what_inline_gives(tmp_path: Path) -> None:
    driver = start_driver(tmp_path / "ray", tmp_path / "ray_events", mixed())
    out, err = driver.communicate(timeout=180)
    assert (driver.returncode, out, err) == (0, "", "")  # and not a word of Ray's own
    calm = [s for s in mixed() if s.id != "dies_once"]
    calm.append(stage("dies_once", seed=7, steps=3))
    inline = start_driver(tmp_path / "inline", tmp_path / "inline_events", calm, runner="inline")
    assert inline.wait(60) == 0
    inline.communicate()

    stores = [Store(str(tmp_path / name)) for name in ("ray", "inline")]
    for name in [s.id for s in mixed()]:
        assert stores[0].result(name) == stores[1].result(name)
    for name, value in VALUES.items():
        assert stores[0].result(name)["metrics"]["value"] == value  # type: ignore[index]

    def ends(path: Path) -> dict[str, tuple[str, str]]:
        return {
            name: (kind, reason.partition(" (traceback")[0])
            for kind, name, _, reason in read_events(path)
            if kind != "started"
        }

    assert ends(tmp_path / "ray_events") == ends(tmp_path / "inline_events")
    events = read_events(tmp_path / "ray_events")
    starts = [(name, reason) for kind, name, _, reason in events if kind == "started"]
    again = ("dies_once", "its process died; started again (1 of 3)")
    assert starts.count(again) == 1
    names = [name for name, reason in starts if not reason]
    assert len(names) == len(set(names))  # a stage that fails by itself is not tried again
    order = [(kind, name) for kind, name, *_ in events]
    for child in mixed():
        for parent in child.parents.values():
            if ("started", child.id) in order:
                assert order.index(("finished", parent)) < order.index(("started", child.id))
    steps = [record["step"] for record in stores[0].folder("dies_once").records()]
    assert steps == [0, 1, 2, 0, 3]


@pytest.mark.slow
def test_a_process_that_always_dies_fails_its_branch_only(tmp_path: Path) -> None:
    plan = [
        stage("dies", steps=9, die_after=list(range(9))),
        stage("under", "dies"),
        stage("sibling", seed=4),
    ]
    driver = start_driver(
        tmp_path, tmp_path / "events", plan, max_failures=1, max_concurrent=1, reuse_actors=False
    )
    assert driver.communicate(timeout=120)[0] == "" and driver.returncode == 0
    events = read_events(tmp_path / "events")
    ends = {name: (kind, reason) for kind, name, _, reason in events if kind != "started"}
    assert ends["dies"] == ("failed", "its process died 2 times (killed, or out of memory)")
    assert ends["under"] == ("blocked", f"parent stage dies failed: {ends['dies'][1]}")
    assert ends["sibling"][0] == "finished"


@pytest.mark.slow
def test_a_killed_driver_leaves_nothing_and_the_same_again_goes_on(tmp_path: Path) -> None:
    root, log = tmp_path / "runs", tmp_path / "events"
    plan = [
        stage("first", seed=1),
        stage("slow", "first", seed=10, steps=60, step_seconds=0.2),
        stage("other", "first", seed=20, steps=60, step_seconds=0.2),
        stage("last", "slow", "other", seed=100),
    ]
    store = Store(str(root))
    driver = start_driver(root, log, plan)
    try:
        wait_until(lambda: len(store.folder("slow").checkpoints()) == 2, 60)
        wait_until(lambda: len(store.folder("other").checkpoints()) == 2, 60)
        workers = {store.folder(n).records()[0]["pid"] for n in ("slow", "other")}
        mark = f"obert-{driver.pid}-"  # Ray's folder is in the command line of all that is Ray's
        assert len(processes_with(mark)) >= 3
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        gone = wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 10)
        print(f"workers gone {gone:.1f} s after the driver was killed")
    finally:
        reap(driver)
    # Ray's agents may linger; a fresh start works meanwhile.
    second = start_driver(root, log, plan)
    try:
        assert second.wait(120) == 0
    finally:
        reap(second)
    assert store.result("last")["metrics"]["value"] == 132  # type: ignore[index]
    for name in ("slow", "other"):
        steps = [record["step"] for record in store.folder(name).records()]
        resumed = steps.index(0, 1)
        assert steps[resumed + 1] >= steps[resumed - 1]  # went on from the last checkpoint
        assert steps[-1] == 60
    assert len(store.folder("first").records()) == 2  # not repeated
    gone = wait_until(lambda: not processes_with(mark), 90)
    print(f"nothing of Ray's {gone:.1f} s after that")
    wait_until(lambda: not processes_with(f"obert-{second.pid}-"), 10)
    assert not list(Path("/tmp").glob(f"obert-{driver.pid}-*"))
    assert not list(Path("/tmp").glob(f"obert-{second.pid}-*"))


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_quickly(tmp_path: Path, signum: int) -> None:
    root, log = tmp_path / "runs", tmp_path / "events"
    driver = start_driver(root, log, [stage("slow", steps=500, step_seconds=0.2), stage("b")])
    store = Store(str(root))
    try:
        wait_until(lambda: store.folder("slow").checkpoints(), 60)
        if signum == signal.SIGINT:  # as Ctrl-C does: to the driver and all that it started
            os.killpg(driver.pid, signum)
        else:
            driver.send_signal(signum)
        out, err = driver.communicate(timeout=15)
        assert (driver.returncode, out, err) == (128 + signum, "", "")
        wait_until(lambda: not processes_with(f"obert-{driver.pid}-"), 10)
        state = store.folder("slow").lease_state()
        assert state is None or state.stale  # free for the next run at once
    finally:
        reap(driver)


@pytest.mark.slow
def test_a_stage_of_another_driver_is_waited_for(tmp_path: Path) -> None:
    root, log = tmp_path / "runs", tmp_path / "events"
    store = Store(str(root), stale_after=3.0, beat_seconds=0.1)
    with store.folder("shared").lease("driver X"):
        driver = start_driver(root, log, [stage("shared", seed=2), stage("child", "shared")])
        try:
            wait_until(lambda: any(e[0] == "held" for e in read_events(log)), 60)
            time.sleep(3)  # nothing is live now: Tune asks its searcher once a second
            assert driver.poll() is None
            store.folder("shared").write_json(
                "result.json", {"id": "shared", "status": "done", "metrics": {"value": 9}}
            )
            assert driver.wait(60) == 0
        finally:
            reap(driver)
    assert store.result("child")["metrics"]["value"] == 10  # type: ignore[index]
    told = [(kind, name) for kind, name, *_ in read_events(log)]
    assert told.count(("held", "shared")) == told.count(("finished", "shared")) == 1
    assert ("failed", "shared") not in told


@pytest.mark.slow
def test_a_plan_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "events"
    driver = start_driver(tmp_path / "runs", log, [stage("ok"), stage("huge", cpu=64.0)])
    _, err = driver.communicate(timeout=60)
    assert driver.returncode == 1 and "RequestError" in err and "stage huge" in err
    assert read_events(log) == [] and Store(str(tmp_path / "runs")).ids() == []


def test_demand_is_checked_node_by_node() -> None:
    from obert_sweeps.sweep.demand import check_demand

    nodes = [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 8.0}]
    check_demand([stage("a", cpu=8.0)], nodes)
    both = stage("both", cpu=8.0)
    both.resources["gpu"] = 1.0  # 8 CPUs are there, and a GPU, but on different nodes
    with pytest.raises(RequestError, match="8 CPU and 1 GPU and no node"):
        check_demand([both], nodes)
    both.resources = {"cpu": 1.0, "gpu": 1.5}
    with pytest.raises(RequestError, match="whole number"):
        check_demand([both], [{"CPU": 4.0, "GPU": 8.0}])


def test_the_workers_of_a_stage_must_fit_together() -> None:
    from obert_sweeps.sweep.demand import check_demand, most_at_once

    nodes = [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 7.0, "GPU": 2.0}]
    spread = stage("spread", cpu=2.0)
    spread.workers = 5  # two on the first node, three on the second
    check_demand([spread], nodes)
    assert most_at_once([spread], nodes) == 1
    spread.workers = 6
    with pytest.raises(RequestError, match="6 workers of 2 CPU and the cluster has room for 5"):
        check_demand([spread], nodes)
    spread.resources["gpu"] = 1.0
    with pytest.raises(RequestError, match="room for 3.*cluster.workers_per_stage=3"):
        check_demand([spread], nodes)
    spread.resources["cpu"] = 8.0
    with pytest.raises(RequestError, match="no node"):
        check_demand([spread], nodes)
