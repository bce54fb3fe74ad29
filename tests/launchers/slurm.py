"""A Slurm of our own: a controller here, a node on each host; all of it ends with the test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hosts import Host

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")

CONFIGURATION = """
ClusterName=test
SlurmctldHost={me}({address})
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket,cred_expire=5
SlurmctldPort={port}
SlurmdPort=6818
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
MessageTimeout=5
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=10
NodeName=n[0-{last}] NodeAddr={network}.[1-{count}] CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


@dataclass
class Slurm:
    """What a user does with it."""

    root: Path

    def __call__(self, *command: str) -> str:
        """Run one of its commands; its answer."""
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment())
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.root / "slurm.conf")}

    def job(self, number: str) -> dict[str, str]:
        """What the controller knows of a job."""
        words = self("scontrol", "show", "job", number, "--oneliner").split()
        return dict(word.split("=", 1) for word in words if "=" in word)


@contextmanager
def slurm(hosts: Sequence[Host], address: str, root: Path, cpus: int) -> Iterator[Slurm]:
    """A controller at `address` and a node with `cpus` CPUs on each host.

    Skips the test where Slurm is not installed.
    """
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")
    for folder in ("state", *(f"spool-{host.name}" for host in hosts)):
        (root / folder).mkdir(parents=True)
    (root / "munge.key").write_bytes(os.urandom(128))
    (root / "munge.key").chmod(0o400)
    network = hosts[0].address.rpartition(".")[0]
    text = CONFIGURATION.format(
        root=root, me=socket.gethostname(), address=address, network=network, cpus=cpus,
        count=len(hosts), last=len(hosts) - 1, port=20000 + os.getpid() % 10000,
    )  # fmt: skip
    (root / "slurm.conf").write_text(text)
    (root / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # and none is used
    here = Slurm(root)
    log = (root / "daemons.log").open("w")
    quiet = {"stdout": log, "stderr": log, "env": here.environment()}
    munge = [
        f"--{name}={root}/munge.{name.split('-')[0]}"
        for name in ("key-file", "pid-file", "log-file", "seed-file")
    ]
    started = [
        subprocess.Popen(
            ["munged", "--foreground", "--force", f"--socket={root}/munge.socket", *munge], **quiet
        ),  # type: ignore[call-overload]
        subprocess.Popen(["slurmctld", "-D"], **quiet),  # type: ignore[call-overload]
        *(host.start("slurmd", "-D", **quiet) for host in hosts),
    ]
    try:
        for _ in range(60):
            asked = subprocess.run(
                ["sinfo", "-h", "-o", "%t %D"],
                capture_output=True,
                text=True,
                env=here.environment(),
            )
            if asked.stdout.split() == ["idle", str(len(hosts))]:
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"no Slurm: {asked}\n{(root / 'daemons.log').read_text()[-3000:]}")
        yield here
    finally:
        subprocess.run(
            ["scancel", "--full", "--user=root"],
            env=here.environment(),
            capture_output=True,
            timeout=30,
        )
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        log.close()
