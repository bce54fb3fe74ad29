"""`run` with tracker.mode=online: what has ended goes online while the rest still runs.

It is the verb `sync` in a process of its own, one at a time and with the lowest claim on the
processors, so that neither W&B's servers nor the lack of them hold up the sweep.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time

from ...request.read import Loaded
from ...tracker.rebuild import FOLDER
from ..answer import notice
from ..settings import store_of

EVERY_SECONDS = 60.0
LAST_SECONDS = 60.0  # what the end of a run waits for its last uploads
_SAID = ("tracker", "store", "allow_targets")  # what `sync` needs of the request


class Uploads:
    """A context manager around a sweep; `look` is called now and then, from one thread."""

    def __init__(self, loaded: Loaded, every_seconds: float = EVERY_SECONDS) -> None:
        self._wanted = loaded.request.tracker.get("mode") == "online"
        said = [(o.key_or_group.partition(".")[0], str(o.input_line)) for o in loaded.overrides]
        self._verb = ["sync", *(line for key, line in said if key in _SAID)]
        nice = shutil.which("nice")
        self._command = [nice, "-n", "19"] if nice else []
        self._command += [sys.executable, "-m", "obert_sweeps", *self._verb]
        self._log = store_of(loaded).root / FOLDER / "sync.log"
        self._every = every_seconds
        self._next = time.monotonic() + every_seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Uploads:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()  # whatever is half uploaded is resumed by the next
            self._process.wait()

    def look(self) -> None:
        """Start an upload if one is due and none is at work."""
        ended = self._process is None or self._process.poll() is not None
        if self._wanted and ended and time.monotonic() >= self._next:
            self._start()

    def finish(self, seconds: float = LAST_SECONDS) -> None:
        """Upload what is left, for so long; say what to type where that was not enough."""
        if not self._wanted:
            return
        until, code = time.monotonic() + seconds, None
        try:
            if self._process is not None:
                self._process.wait(max(0.0, until - time.monotonic()))
            code = self._start().wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        if code != 0:
            again = shlex.join(["obert-sweeps", *self._verb])
            notice(f"not everything is in W&B yet; {self._log} says why. To finish later: {again}")

    def _start(self) -> subprocess.Popen[bytes]:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment()
            )
        self._next = time.monotonic() + self._every
        return self._process


def _environment() -> dict[str, str]:
    """Without the name of this process's own W&B service: uploads must not trouble its runs."""
    return {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
