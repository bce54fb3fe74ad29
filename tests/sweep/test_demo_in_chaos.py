"""The whole demo on three hosts while workers, a node and the driver are killed, and undisturbed.

Not part of `make check`, since it runs the demo twice (about 20 minutes of two cores):
    python -m pytest -m long -s tests/sweep/test_demo_in_chaos.py
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from processes import kill_all, reap, wait_until
from ray_cluster import Cluster, end_wholly, ray_cluster, stage_processes

NODE_AFTER, DRIVERS_AFTER = 30, (20, 60)  # finished stages
EVERY_SECONDS = 20.0


def command(store: Path, *more: str) -> list[str]:
    own = ["preset=demo", f"store={store}", "tracker=none", *more]
    return [sys.executable, "-m", "obert_sweeps", "run", *own]


def finished(store: Path) -> dict[str, int]:
    """When each finished stage's result was written, in ns."""
    return {f.parent.name: f.stat().st_mtime_ns for f in store.glob("stages/*/result.json")}


def found(store: Path) -> dict[str, dict[str, Any]]:
    """What each stage came to, but for speeds."""
    what = {}
    for stage in finished(store):
        folder = store / "stages" / stage
        result = json.loads((folder / "result.json").read_text())
        keys = {"metrics", "final_metrics", "steps", "sparsity"} & result.keys()
        if json.loads((folder / "stage.json").read_text())["recipe"]["kind"] != "benchmark":
            what[stage] = {key: result[key] for key in keys}
    return what


class Killer(threading.Thread):
    """Kills one process that runs stages, somewhere, every so many seconds."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self.cluster = cluster
        self.done = threading.Event()
        self.killed = 0

    def run(self) -> None:
        random.seed(1)
        while not self.done.wait(EVERY_SECONDS):
            if there := sorted(stage_processes(self.cluster)):
                self.killed += kill_all([random.choice(there)])


@pytest.mark.long
@pytest.mark.timeout(5400)
def test_the_demo_ends_the_same_whatever_is_killed(tmp_path: Path, project_root: Path) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    assert subprocess.run(command(calm, "cluster.cpus=2"), cwd=project_root).returncode == 0
    first_seen: dict[str, int] = {}
    with ray_cluster(3) as cluster:
        again = command(
            rough, f"cluster.address={cluster.address}", "cluster.wait_for_nodes=2",
            "cluster.max_failures=10",
        )  # fmt: skip
        killer, begun = Killer(cluster), time.monotonic()
        killer.start()

        def start() -> subprocess.Popen[str]:
            return cluster.hosts[0].start(*again, env=cluster.environment, cwd=project_root)

        def look() -> int:
            for stage, written in finished(rough).items():
                assert first_seen.setdefault(stage, written) == written, f"{stage} came twice"
            return len(first_seen)

        driver = start()
        try:
            for number in DRIVERS_AFTER:
                wait_until(lambda number=number: look() >= number, 2400)
                driver.send_signal(signal.SIGKILL)
                took = wait_until(lambda: not stage_processes(cluster), 10)
                print(f"driver killed at {number} stages; no worker after {took:.1f} s")
                driver.wait()
                driver = start()
                if number < NODE_AFTER:
                    wait_until(lambda: look() >= NODE_AFTER, 2400)
                    cluster.hosts[2].kill()
                    print("a node is gone")
            while driver.poll() is None:
                look()
                time.sleep(1.0)
            assert driver.returncode == 0
            look()
        finally:
            killer.done.set()
            reap(driver)
        print(f"{killer.killed} workers killed in {time.monotonic() - begun:.0f} s")
        end_wholly(cluster)
    assert finished(rough).keys() == finished(calm).keys()
    assert killer.killed > 5
    assert found(rough) == found(calm)
