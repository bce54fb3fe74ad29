"""The batch file under a real Slurm, whose nodes are hosts of their own on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hosts import Host, hosts
from slurm import Slurm, slurm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

REQUEST = ["cells=t1/squad/bert_base/dense", "tracker=none", "cluster.checkpoint_seconds=0.5"]
ENDS = {"COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY"}


def program(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "obert_sweeps", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def metrics(store: Path) -> dict[str, Any]:
    return {
        file.parent.name: json.loads(file.read_text())["metrics"]
        for file in store.glob("stages/*/result.json")
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    store = tmp_path_factory.mktemp("inline") / "runs"
    program("run", *REQUEST, "cluster=inline", f"store={store}")
    return metrics(store)


def submit(there: Slurm, root: Path, *words: str) -> str:
    """Print a batch file for a store of its own and hand it in; the job's number."""
    root.mkdir()
    file = root / "sweep.sbatch"
    sizes = ["cluster.launch.gpus_per_node=0", "cluster.launch.cpus_per_node=1"]
    file.write_text(
        program("launch", "cluster=slurm", *REQUEST, *sizes, f"store={root}/runs", *words)
    )
    return there("sbatch", "--parsable", f"--output={root}/job.log", str(file))


def wait_for(condition: Callable[[], Any], seconds: float, root: Path) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        log = root / "job.log"
        assert time.monotonic() < end, log.read_text() if log.exists() else "no log"
        time.sleep(0.5)
    return found


def end_of(there: Slurm, number: str, root: Path, seconds: float) -> str:
    return wait_for(lambda: ({there.job(number)["JobState"]} & ENDS or {""}).pop(), seconds, root)


def lease_holder(store: Path) -> int | None:
    """The process at work on a stage that has something to go on from."""
    for checkpoint in store.glob("stages/*/checkpoint-*"):
        leases = sorted(checkpoint.parent.glob("lease.*.json"))
        if leases and not (checkpoint.parent / "result.json").exists():
            return json.loads(leases[-1].read_text() or "{}").get("pid")
    return None


def rays(nodes: list[Host]) -> list[str]:
    """Ray's processes on these hosts."""
    found = []
    for pid in set().union(*(host.pids() for host in nodes)):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if "ray" in line and "slurm" not in line:
            found.append(line[:80])
    return found


def test_the_time_limit_queues_the_job_again_and_it_goes_on(
    tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    """Two nodes. The signal that comes before the limit is sent in the middle of a stage."""
    root = tmp_path / "job"
    with hosts(2) as (nodes, address), slurm(nodes, address, tmp_path / "slurm", 1) as there:
        number = submit(there, root, "cluster.launch.nodes=2", "cluster.launch.time=01:00:00")
        worker = wait_for(lambda: lease_holder(root / "runs"), 170, root)
        there("scancel", "--batch", "--signal=USR1", number)
        wait_for(lambda: there.job(number)["Restarts"] == "1", 300, root)
        wait_for(lambda: not Path(f"/proc/{worker}").exists(), 30, root)
        assert "to be continued (exit code 143)" in (root / "job.log").read_text()
        assert end_of(there, number, root, 500) == "COMPLETED", (root / "job.log").read_text()
        wait_for(lambda: not rays(nodes), 30, root)
    assert metrics(root / "runs") == undisturbed
    assert "going on from checkpoint" in "".join(
        log.read_text() for log in root.glob("runs/stages/*/log.txt")
    )
    assert not list(Path("/tmp").glob(f"ray-{number}"))


def test_two_jobs_on_one_node_do_not_meet(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    with hosts(1) as (nodes, address), slurm(nodes, address, tmp_path / "slurm", 2) as there:
        jobs = {submit(there, tmp_path / name): tmp_path / name for name in ("a", "b")}
        wait_for(
            lambda: all(there.job(number)["JobState"] == "RUNNING" for number in jobs),
            60, tmp_path / "a",
        )  # fmt: skip
        for number, root in jobs.items():
            assert end_of(there, number, root, 400) == "COMPLETED", (root / "job.log").read_text()
            assert metrics(root / "runs") == undisturbed
        wait_for(lambda: not rays(nodes), 30, tmp_path / "a")
