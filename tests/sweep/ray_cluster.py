"""A Ray cluster of hosts with an address each, for tests of what is lost."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hosts import Host, hosts
from plans import PYTHONPATH, start_driver
from processes import processes_with, wait_until

from obert_sweeps.schema import Stage

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
        """A driver of the plan, on the head's host: elsewhere it would take the head's address,
        which Ray notes in a file, for its own."""

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


@contextmanager
def ray_cluster(count: int) -> Iterator[Cluster]:
    with hosts(count) as (there, _):
        folder = Path(tempfile.mkdtemp(prefix="r3-", dir="/tmp"))  # short: it holds sockets
        cluster = Cluster(there, folder)
        try:
            yield cluster
        finally:
            cluster.end()
            shutil.rmtree(folder, ignore_errors=True)


def end_wholly(cluster: Cluster) -> None:
    cluster.end()
    took = wait_until(lambda: not processes_with(cluster.mark), 90)
    print(f"nothing of Ray's {took:.1f} s after the cluster was ended")


def stage_processes(cluster: Cluster) -> set[int]:
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
