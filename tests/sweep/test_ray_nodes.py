"""A Ray cluster of three hosts, each with an address of its own: one dies, one is cut off."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import Host
from plans import read_events, stage, start_driver
from processes import kill_all, processes_with, reap, wait_until
from ray_cluster import Cluster, end_wholly, ray_cluster, stage_processes

from obert_sweeps.schema import Stage
from obert_sweeps.store import Store


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with ray_cluster(3) as there:
        yield there


def wide(steps: int) -> list[Stage]:
    middle = [stage(f"m{n}", "first", seed=10 * n, steps=steps, step_seconds=0.2) for n in range(6)]
    return [stage("first", seed=1), *middle, stage("last", *(s.id for s in middle), seed=1000)]


def running_on(host: Host, store: Store, plan: list[Stage]) -> str | None:
    """A stage that is under way on the host, with work behind it that would be lost."""
    for planned in plan:
        folder = store.folder(planned.id)
        pids = [record["pid"] for record in folder.records() if "pid" in record]
        there = pids and pids[-1] in host.pids() and store.result(planned.id) is None
        if there and len(folder.checkpoints()) >= 2:
            return planned.id
    return None


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_node_dies_and_one_is_cut_off_and_the_sweep_ends_the_same(
    tmp_path: Path, cluster: Cluster
) -> None:
    plan, root, log = wide(steps=50), tmp_path / "runs", tmp_path / "events"
    store = Store(str(root))
    _, second, third = cluster.hosts
    driver = cluster.drive(root, log, plan)
    try:
        wait_until(lambda: running_on(second, store, plan), 200)
        wait_until(lambda: running_on(third, store, plan), 100)
        hit = {running_on(second, store, plan), running_on(third, store, plan)}
        second.kill()
        third.cut()
        out, err = driver.communicate(timeout=300)
        assert (driver.returncode, out, err) == (0, "", "")
        wait_until(lambda: not stage_processes(cluster), 90)
    finally:
        reap(driver)
    told = read_events(log)
    assert {kind for kind, *_ in told} <= {"started", "finished", "held"}
    again = {name for kind, name, _, reason in told if kind == "started" and reason}
    assert again == hit, "who was hit was started again, and nobody else"
    for name in again:
        steps = [record["step"] for record in store.folder(name).records()]
        assert steps.count(1) == 1, "went on from a checkpoint that the lost node had written"
    finished = [name for kind, name, *_ in told if kind == "finished"]
    assert sorted(finished) == sorted(s.id for s in plan)
    calm = start_driver(tmp_path / "calm", tmp_path / "e", wide(steps=1), runner="inline")
    assert calm.wait(60) == 0
    calm.communicate()
    for planned in plan:
        expected = Store(str(tmp_path / "calm")).result(planned.id)
        assert store.result(planned.id)["metrics"] == expected["metrics"]  # type: ignore[index]
    end_wholly(cluster)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_driver_leaves_no_worker_on_any_host(tmp_path: Path, cluster: Cluster) -> None:
    plan, root = wide(steps=300), tmp_path / "runs"
    store = Store(str(root))
    driver = cluster.drive(root, tmp_path / "events", plan)
    try:
        for host in cluster.hosts[1:]:
            wait_until(lambda host=host: running_on(host, store, plan), 200)
        assert stage_processes(cluster)
        driver.send_signal(signal.SIGKILL)
        took = wait_until(lambda: not stage_processes(cluster), 10)
        print(f"no worker {took:.1f} s after the driver was killed")
    finally:
        reap(driver)
    end_wholly(cluster)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_lost_head_ends_the_driver_and_another_cluster_goes_on(
    tmp_path: Path, cluster: Cluster
) -> None:
    plan, root, log = wide(steps=50), tmp_path / "runs", tmp_path / "events"
    store = Store(str(root))
    driver = cluster.drive(root, log, plan)
    try:
        wait_until(lambda: any(running_on(host, store, plan) for host in cluster.hosts[1:]), 200)
        kill_all(processes_with(f"{cluster.folder}/{cluster.hosts[0].name}/"))
        took = wait_until(lambda: driver.poll() is not None, 120)
        print(f"the driver ended {took:.1f} s after its head was lost")
        assert driver.returncode not in (0, None)
        print(driver.returncode, *driver.communicate())
        wait_until(lambda: not stage_processes(cluster), 90)
    finally:
        reap(driver)
    end_wholly(cluster)
    done = {s.id for s in plan if store.result(s.id)}
    assert len(done) < len(plan)
    there = Cluster(cluster.hosts, cluster.folder / "again")
    try:
        later = tmp_path / "later"
        driver = there.drive(root, later, plan)
        assert driver.wait(300) == 0
        driver.communicate()
    finally:
        reap(driver)
        there.end()
    begun = {name for kind, name, *_ in read_events(later) if kind == "started"}
    assert begun == {s.id for s in plan} - done


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_who_has_no_token_is_not_let_in(tmp_path: Path, cluster: Cluster) -> None:
    cluster.environment = {k: v for k, v in cluster.environment.items() if "AUTH" not in k}
    cluster.environment["HOME"] = str(tmp_path)  # where Ray would look for one
    driver = cluster.drive(tmp_path / "runs", tmp_path / "events", [stage("a")], wait_seconds=30.0)
    try:
        _, err = driver.communicate(timeout=200)
        assert driver.returncode != 0
        assert "uthenticat" in err or "RequestError" in err
    finally:
        reap(driver)
    assert read_events(tmp_path / "events") == []
