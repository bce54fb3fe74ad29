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

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


def in_child(work: Callable[[Path], None], root: Path, kill_at: int | None = None) -> int | None:
    """Do `work(root)` in a forked process; it is killed before change number `kill_at` (from 0).

    Returns the number of changes; None if it was killed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(reading)
            changes = _count(root, kill_at)
            work(root)
            os.write(writing, str(len(changes)).encode())
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


def _count(root: Path, kill_at: int | None) -> list[str]:
    seen: list[str] = []
    mine, main = str(root), threading.get_ident()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            changes = bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        else:
            path, changes = (arguments or ("",))[0], event in _CHANGES
        # A lease's beats are its thread's, and come when they come.
        if not changes or not str(path).startswith(mine) or threading.get_ident() != main:
            return
        if len(seen) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        seen.append(event)

    sys.addaudithook(hook)
    os.fsync = lambda handle: None  # type: ignore[assignment]  # matters to power cuts alone
    return seen
