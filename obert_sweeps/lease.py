"""Who works on a stage: at most one process at a time, without a server and without clocks.

A lease is a numbered file, `lease.<n>.json`. Only the highest number counts, and that file is never
deleted before a higher one exists, so creating `lease.<n + 1>.json` with O_EXCL is an atomic
compare-and-set on any file system that two drivers can share: of several takers one wins. The
holder's thread raises `counter`; a reader calls the lease stale when the holder's process on this
machine is gone, or when the counter has stood still on the reader's own monotonic clock. Clocks of
different machines are never compared. A holder that was suspended and overtaken finds the higher
number and must not write results.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BEAT_SECONDS = 2.0
STALE_SECONDS = 30.0

_NAME = re.compile(r"lease\.(\d+)\.json")


class Held(Exception):
    """The stage is in the hands of another living process; come back later."""


class LeaseLost(Held):
    """This process held the lease, stood still too long, and another has taken it over."""


@dataclass(frozen=True)
class LeaseState:
    """What a reader knows of a lease. `stale` is None until watching has told."""

    owner: str
    host: str
    pid: int | None
    stale: bool | None


def process_start(pid: int) -> int | None:
    """When process `pid` started, in clock ticks since boot; None if it is gone (or a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def machine() -> str | None:
    """What must be equal for pids to mean the same: this boot and this pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _read(path: Path) -> dict[str, Any]:
    """A lease file's content; empty while its holder is still writing it, or if it never did."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _highest(folder: Path) -> int:
    """The number of the lease that counts; 0 for none."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return 0
    return max((int(m[1]) for m in map(_NAME.fullmatch, names) if m), default=0)


class LeaseWatch:
    """A reader's memory: since when, on its own clock, has each lease's counter stood still?"""

    def __init__(self, stale_after: float = STALE_SECONDS) -> None:
        self.stale_after = stale_after
        self._seen: dict[Path, tuple[tuple[int, Any], float, bool]] = {}

    def state(self, folder: Path) -> LeaseState | None:
        """Who holds the lease in `folder`; None if nobody does.

        `stale` is True at once if the holder's process was on this machine and is gone. Else it is
        None at the first look, False once the counter was seen moving, True when it stood still.
        """
        number = _highest(folder)
        content = _read(folder / f"lease.{number}.json") if number else {}
        if not number or content.get("released"):
            self._seen.pop(folder, None)
            return None
        beat, now = (number, content.get("counter")), time.monotonic()
        last, since, moved = self._seen.get(folder, (beat, now, False))
        if last != beat:
            since, moved = now, True
        self._seen[folder] = (beat, since, moved)
        here = machine() is not None and content.get("machine") == machine()
        gone = here and process_start(content["pid"]) != content.get("process_start")
        # A process that is there may hang or be suspended: only a moving counter shows life.
        stale = True if gone or now - since >= self.stale_after else (False if moved else None)
        who = content.get("owner", "unknown"), content.get("host", "unknown")
        return LeaseState(*who, content.get("pid"), stale)


class Lease:
    """Holding one stage. A context manager; `lost` is set once another process has taken over."""

    def __init__(
        self, folder: Path, owner: str, watch: LeaseWatch, beat_seconds: float = BEAT_SECONDS
    ) -> None:
        self.folder, self.owner, self.watch = folder, owner, watch
        self.beat_seconds = beat_seconds
        self.number = 0
        self.lost = threading.Event()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._content: dict[str, Any] = {}

    def __enter__(self) -> Lease:
        self.folder.mkdir(parents=True, exist_ok=True)
        # As soon as the holder's counter moves we know that it lives; else it stands still until
        # it is stale. So this ends within `stale_after`.
        while not self._take():
            time.sleep(min(0.5, self.watch.stale_after / 10, self.beat_seconds / 2))
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(OSError):  # not released, it goes stale
            if _highest(self.folder) == self.number:
                self._write({**self._content, "released": True})
            else:
                self._path(self.number).unlink(missing_ok=True)

    def check(self) -> None:
        """Raise LeaseLost unless this process still holds the stage, by a look at the folder."""
        if self.lost.is_set() or _highest(self.folder) != self.number:
            self.lost.set()
            raise LeaseLost(
                f"another process has taken over {self.folder.name} after this one stood still for "
                f"more than {self.watch.stale_after:.0f} s; its result will be the one that counts"
            )

    def _path(self, number: int) -> Path:
        return self.folder / f"lease.{number}.json"

    def _take(self) -> bool:
        """Try once. False: not known yet, ask again. Raises Held if somebody lives there."""
        before = _highest(self.folder)
        state = self.watch.state(self.folder)
        if state is not None and state.stale is not True:
            if state.stale is None:
                return False
            raise Held(
                f"stage {self.folder.name} is being run by {state.owner} "
                f"(process {state.pid} on {state.host})"
            )
        number = before + 1
        try:
            handle = os.open(self._path(number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        os.close(handle)
        if _highest(self.folder) != number:
            # Our look was old: others have come and gone, and a higher number counts.
            self._path(number).unlink(missing_ok=True)
            return False
        self.number = number
        self._content = {
            "owner": self.owner,
            "host": socket.gethostname(),
            "machine": machine(),
            "pid": os.getpid(),
            "process_start": process_start(os.getpid()),
            "counter": 0,
        }
        self._write(self._content)
        for name in os.listdir(self.folder):
            match = _NAME.fullmatch(name)
            if match and int(match[1]) < number:
                (self.folder / name).unlink(missing_ok=True)
        return True

    def _write(self, content: dict[str, Any]) -> None:
        part = self.folder / f".lease.{self.number}.part"
        part.write_text(json.dumps(content))
        os.replace(part, self._path(self.number))

    def _beat(self) -> None:
        while not self._done.wait(self.beat_seconds):
            try:
                if _highest(self.folder) != self.number:
                    self.lost.set()
                    return
                self._content["counter"] += 1
                self._write(self._content)
            except OSError:
                # A full or unreachable store: others see us stand still, which is the truth.
                continue
