"""Asking what needs torch, which the driver does not import, in a short-lived process."""

from __future__ import annotations

import os
import subprocess
import sys


class ChildDied(Exception):
    """The process ended badly. The message is the last line it left on stderr."""


def ask(*arguments: str, said: str = "") -> str:
    """What `python ARGUMENTS` prints when it is told `said`. Raises ChildDied."""
    asked = subprocess.run(
        [sys.executable, *arguments],
        input=said,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    if asked.returncode:
        last = asked.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ChildDied(last[0])
    return asked.stdout
