"""Killing a process before one of its changes to a folder, whichever code makes it.

Python tells its audit hooks of every file that is opened for writing, made, renamed or removed,
before it is. Before a change is after the one before it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from obert_sweeps.store.place.bucket import BucketPlace

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


def in_child(
    work: Callable[[Any], None],
    root: Any,
    kill_at: int | None = None,
    watch: Callable[[Any, Callable[[], None]], None] | None = None,
) -> int | None:
    """Do `work(root)` in a forked process; it is killed before change number `kill_at` (from 0).

    `watch(root, change)` sees to it that `change()` is called before each change: of files below
    the folder `root`, if nothing else is said.

    Returns the number of changes; None if it was killed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(reading)
            changes = _Changes(kill_at)
            (watch or of_files)(root, changes.one)
            work(root)
            os.write(writing, str(changes.seen).encode())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert os.WEXITSTATUS(status) == 0, "the child's traceback is above"
    return int(told)


class _Changes:
    """Counts what this thread changes. A lease's beats are another's, and come when they come."""

    def __init__(self, kill_at: int | None) -> None:
        self.seen, self.kill_at, self.thread = 0, kill_at, threading.get_ident()

    def one(self) -> None:
        if threading.get_ident() != self.thread:
            return
        if self.seen == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen += 1


def of_files(root: Path, change: Callable[[], None]) -> None:
    """Whatever changes a file below a folder."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            changes = bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        else:
            path, changes = (arguments or ("",))[0], event in _CHANGES
        if changes and str(path).startswith(str(root)):
            change()

    sys.addaudithook(hook)
    os.fsync = lambda handle: None  # type: ignore[assignment]  # matters to power cuts alone


def of_requests(_: str, change: Callable[[], None]) -> None:
    """Whatever a bucket is asked to write or remove."""
    real = BucketPlace._call

    def call(self: BucketPlace, action: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        if action.__name__.lstrip("_") in ("pipe_file", "put_file", "rm_file"):
            change()
        return real(self, action, *arguments, **more)

    BucketPlace._call = call  # type: ignore[method-assign]
