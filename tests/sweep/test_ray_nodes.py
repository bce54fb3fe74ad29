"""A Ray cluster of three hosts, each with an address of its own: one dies, one is cut off."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hosts import Host, hosts
from plans import PYTHONPATH, read_events, stage, start_driver
from test_ray_tune import processes_with, reap, wait_until

from obert_sweeps.schema import Stage
from obert_sweeps.store import Store

PORT = 6399
RAY = str(Path(sys.executable).with_name("ray"))

# Ray finds a lost node after half a minute, and a lost node ends itself after a minute; here both
# are asked to be quicker.
QUICK = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
    "RAY_grpc_client_keepalive_time_ms": "5000",
    "RAY_grpc_client_keepalive_timeout_ms": "3000",
}


@dataclass
class Cluster:
    """Ray on each host, the head on the first; `mark` is in the command line of all of it."""

    hosts: list[Host]
    folder: Path
    nodes: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mark = str(self.folder)
        self.environment = {
            **os.environ, **QUICK, "PYTHONPATH": PYTHONPATH,
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }  # fmt: skip
        head = self.hosts[0]
        self.address = f"{head.address}:{PORT}"
        self._add(head, "--head", f"--node-ip-address={head.address}", f"--port={PORT}",
                  "--include-dashboard=false")  # fmt: skip
        for host in self.hosts[1:]:
            self._add(host, f"--address={self.address}")

    def _add(self, host: Host, *role: str) -> None:
        command = [RAY, "start", *role, "--block", f"--temp-dir={self.folder}/{host.name}",
                   "--num-cpus=1", "--disable-usage-stats"]  # fmt: skip
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.nodes.append(host.start(*command, env=self.environment, **quiet))

    def drive(self, root: Path, events: Path, plan: list[Stage], **how: Any) -> Any:
        """A driver of the plan, on the head's host."""

        def start(*command: str, **options: Any) -> subprocess.Popen[str]:
            return self.hosts[0].start(*command, **{**options, "env": self.environment})

        how = {"address": self.address, "wait_for_nodes": 3, "wait_seconds": 120.0, **how}
        return start_driver(root, events, plan, start=start, **how)

    def end(self) -> None:
        for node in self.nodes:
            node.terminate()
        for node in self.nodes:
            try:
                node.wait(30)
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with hosts(3) as (three, _):
        folder = Path(tempfile.mkdtemp(prefix="r3-", dir="/tmp"))  # short: it holds sockets
        there = Cluster(three, folder)
        try:
            yield there
        finally:
            there.end()
            shutil.rmtree(folder, ignore_errors=True)


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


def end_wholly(cluster: Cluster) -> None:
    cluster.end()
    took = wait_until(lambda: not processes_with(cluster.mark), 90)
    print(f"nothing of Ray's {took:.1f} s after the cluster was ended")


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
        wait_until(lambda: not _stage_processes(cluster), 90)
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
        assert _stage_processes(cluster)
        driver.send_signal(signal.SIGKILL)
        took = wait_until(lambda: not _stage_processes(cluster), 10)
        print(f"no worker {took:.1f} s after the driver was killed")
    finally:
        reap(driver)
    end_wholly(cluster)


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


def _stage_processes(cluster: Cluster) -> set[int]:
    """Workers that hold or held a stage, on any host."""
    found = set()
    for pid in set().union(*(host.pids() for host in cluster.hosts)):
        try:
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if (b"StageTrial" in title or b"_Inner" in title) and state != "Z":
            found.add(pid)
    return found
