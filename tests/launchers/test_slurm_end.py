"""How the batch file ends, run as it is but for Slurm, Ray and the program, which are stand-ins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from obert_sweeps.cli.door import main

ANSWERS = 'until (: <"/dev/tcp/${RAY_ADDRESS/://}") 2>/dev/null; do sleep 0.05; done'
SILENT = ANSWERS.replace("until", "while")
STAND_INS = {
    "getent": "echo 0.0.0.0 STREAM here",
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "scontrol": 'echo "$@" >>"$NOTES/scontrol"',
    "ray": f"""echo $$ >"$NOTES/ray"; exec {sys.executable} "$NOTES/head.py" "$@" """,
    "obert-sweeps": f"{ANSWERS}; source $NOTES/program",
}
HEAD = """
import os, socket, sys, time
(port,) = (word.partition("=")[2] for word in sys.argv if word.startswith("--port="))
with socket.create_server(("", int(port))):
    parent = os.getppid()
    while os.getppid() == parent:  # srun ends what it has started
        time.sleep(0.05)
"""


@pytest.mark.parametrize(
    ("program", "code", "queued"),
    [
        ("exit 0", 0, False),
        ("exit 1", 1, False),  # some cells failed
        (f"kill $(cat $NOTES/ray); {SILENT}; exit 1", 70, True),  # Ray's head is gone
        ("exit 134", 134, True),
    ],
)
def test_a_job_whose_ray_is_gone_is_queued_again(
    program: str, code: int, queued: bool, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Ray's library ends the driver with 1 then, which is the code of failed cells."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, text in STAND_INS.items():
        (bin_folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (bin_folder / name).chmod(0o755)
    (tmp_path / "head.py").write_text(HEAD)
    (tmp_path / "program").write_text(program)
    words = ["cluster=slurm", "store=/shared/runs", f"cluster.launch.environment={tmp_path}"]
    assert main(["launch", *words]) == 0
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0"}
    job |= {"SLURM_CPUS_PER_TASK": "1", "NOTES": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-c", capsys.readouterr().out],
        capture_output=True,
        text=True,
        env=os.environ | job,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert (tmp_path / "scontrol").exists() == queued, done.stdout
