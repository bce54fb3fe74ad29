"""The image, built by a daemonless builder and used as KubeRay would.

By hand, since it fetches some 3 GB and takes five minutes; as root, with buildah and mmdebstrap:
    python -m pytest -m long -s tests/launchers/test_image.py
The base image cannot be had everywhere: in the place of python:3.11-slim stands the same Debian
with its own Python 3.11.
"""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from socket import socket

import pytest
import yaml
from processes import processes_with, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

PROJECT = Path(__file__).resolve().parents[2]
BASE, IMAGE = "docker.io/library/python:3.11-slim", "localhost/obert-sweeps:test"
DEBIAN = ["mmdebstrap", "--variant=minbase", "bookworm",
          "--include=python3,python3-pip,python-is-python3,ca-certificates"]  # fmt: skip
# pip as the base image has it: free to write to the system's Python.
OWN_PYTHON = "rm /usr/lib/python3.11/EXTERNALLY-MANAGED && python --version"
CELL = "t1/squad/bert_base/dense"

HEAD_AND_WORKER = """
set -eu
trap 'kill $(jobs -p); wait' EXIT
ray start --head --num-cpus=0 --port={head} --dashboard-port={dashboard} --block >/tmp/head.log &
until ray status --address=127.0.0.1:{head} >/dev/null 2>&1; do sleep 1; done
ray start --address=127.0.0.1:{head} --num-cpus=2 --block >/tmp/worker.log &
ray job submit --address=http://127.0.0.1:{dashboard} -- {entrypoint}
"""


class Buildah:
    """buildah with a storage of its own; commands in images run in a chroot."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options = ["--root", str(folder / "root"), "--runroot", str(folder / "run"),
                        "--storage-driver", "overlay"]  # fmt: skip

    def __call__(self, verb: str, *words: str) -> str:
        command = ["buildah", *self.options, verb, *words]
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout[-8000:]
        return done.stdout.strip()

    def run(self, container: str, *words: str) -> str:
        return self("run", "--isolation=chroot", container, "--", *words)

    def close(self) -> None:
        self("rm", "--all")
        self("rmi", "--all", "--force")


def pip_of_this_machine(folder: Path) -> list[str]:
    """Options that give a build pip's settings and the local folders that they name."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.check_output(command, text=True).splitlines()
    settings = {key: value.strip("'") for key, value in (line.split("=", 1) for line in lines)}
    file = folder / "pip.conf"
    own = [f"{k.removeprefix('global.')} = {v}" for k, v in settings.items() if k[0] != ":"]
    file.write_text("\n".join(["[global]", *own, ""]))
    named = re.findall(r"(?:^|\s|file://)(/[^\s]+)", "\n".join(settings.values()))
    places = {path.removesuffix("/simple") for path in named if Path(path).exists()}
    mounts = [f"{file}:/etc/pip.conf:ro", *(f"{place}:{place}:ro" for place in sorted(places))]
    return [word for mount in mounts for word in ("--volume", mount)]


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    with closing(Buildah(tmp_path_factory.mktemp("buildah"))) as there:
        tar = there.folder / "base.tar"
        subprocess.run([*DEBIAN, tar], check=True, capture_output=True)
        base = there("from", "scratch")
        there("add", "--quiet", base, str(tar), "/")
        there("config", "--env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/bin", base)
        there.run(base, "sh", "-c", OWN_PYTHON)
        there("commit", "--quiet", base, BASE)
        tar.unlink()
        yield there


@pytest.fixture(scope="module")
def container(buildah: Buildah) -> str:
    options = ["--pull-never", "--layers=false", "--isolation=chroot", f"--tag={IMAGE}"]
    print(buildah("bud", *options, *pip_of_this_machine(buildah.folder), str(PROJECT))[-2000:])
    return buildah("from", "--pull-never", IMAGE)


def test_a_user_without_rights_finds_the_program_and_all_it_may_need(buildah, container) -> None:
    run = buildah.run
    assert run(container, "id", "-un") == "sweeper"
    assert run(container, "pwd") == "/home/sweeper"
    assert "obert-sweeps VERB" in run(container, "obert-sweeps", "--help")
    run(container, "which", "ray", "wget", "rsync", "ps")
    run(container, "python", "-c", "import boto3, onnx, onnxruntime, openvino, s3fs")
    run(container, "pip", "check")
    assert run(container, "obert-sweeps", "ls", "table=all", "format=json").count('"t') >= 69
    left = run(container, "ls", "-A", "/opt/obert-sweeps").split()
    assert not {".git", "tests", "docs", ".venv"} & set(left)


def free_port() -> int:
    with socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_rayjob_runs_in_it(buildah, container) -> None:
    """Head, worker and the printed file's entrypoint, submitted as the operator submits it."""
    launch = [sys.executable, "-m", "obert_sweeps", "launch", "cluster=kuberay", f"cells={CELL}",
              "tracker=none", "store=/runs", f"cluster.launch.image={IMAGE}",
              "cluster.launch.claim=volume", "cluster.launch.gpus_per_worker=0"]  # fmt: skip
    entrypoint = yaml.safe_load(subprocess.check_output(launch, text=True))["spec"]["entrypoint"]
    script = HEAD_AND_WORKER.format(head=free_port(), dashboard=free_port(), entrypoint=entrypoint)
    token = secrets.token_hex(32)
    keys = ["RAY_AUTH_MODE=token", f"RAY_AUTH_TOKEN={token}", "RAY_worker_niceness=0"]
    print(buildah.run(container, "env", *keys, "bash", "-c", script))
    results = buildah.run(container, "sh", "-c", "cat /runs/stages/*/result.json")
    assert re.findall(r'"status": "(\w+)"', results) == ["done", "done"]  # pretrain and dense
    wait_until(lambda: not processes_with(token), 90)
