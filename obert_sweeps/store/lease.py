"""Who works on a stage: at most one process at a time, without a server and without clocks.

A lease is a numbered file, `lease.<n>.json`. Only the highest number counts, and that file is never
deleted before a higher one exists, so creating `lease.<n + 1>.json` only if there is none is an
atomic compare-and-set in any place that two drivers can share: of several takers one wins. The
holder's thread raises `counter`; a reader calls the lease stale when the holder's process on this
machine is gone, or when the counter has stood still on the reader's own monotonic clock. Clocks of
different machines are never compared. A holder that was suspended and overtaken finds the higher
number and must not write results.
"""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .place import Place

_NAME = re.compile(r"lease\.(\d+)\.json")


class Held(Exception):
    """The stage is in the hands of another living process; come back later."""


class LeaseLost(Held):
    """This process held the lease, stood still too long, and another has taken it over."""


@dataclass(frozen=True)
class LeaseState:
    """What a reader knows of a lease. `stale` is None until watching has told."""

    owner: str  # names the process and its host, as `this_process` does
    stale: bool | None

    def __str__(self) -> str:
        return self.owner


def process_start(pid: int) -> int | None:
    """When process `pid` started, in clock ticks since boot; None if it is gone (or a zombie).

    None also of another user's, where the system hides those (/proc with hidepid): see `has_ended`.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def has_ended(pid: int, start: int | None) -> bool:
    """Is the process `pid` that started at `start` surely no more? Not where it is hidden."""
    now = process_start(pid)
    if now is not None or now == start:
        return now != start
    try:
        os.kill(pid, 0)  # sends nothing
    except PermissionError:  # somebody has that number: only a counter tells whether it is the same
        return False
    except OSError:
        pass
    return True


def this_process() -> str:
    """How people call this process: what a lease says of its owner."""
    return f"{platform.node()} process {os.getpid()}"


def machine() -> str | None:
    """What must be equal for pids to mean the same: this boot and this pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _read(place: Place, number: int) -> dict[str, Any]:
    """A lease file's content; empty while its holder is still writing it, or if it never did."""
    try:
        content = json.loads(place.read(_name(number)))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _name(number: int) -> str:
    return f"lease.{number}.json"


def _numbers(place: Place) -> list[int]:
    return [int(match[1]) for match in map(_NAME.fullmatch, place.names()) if match]


def _highest(place: Place) -> int:
    """The number of the lease that counts; 0 for none."""
    return max(_numbers(place), default=0)


class LeaseWatch:
    """A reader's memory: since when, on its own clock, has each lease's counter stood still?"""

    def __init__(self, stale_after: float) -> None:
        self.stale_after = stale_after
        self._seen: dict[str, tuple[tuple[int, Any], float, bool]] = {}

    def state(self, place: Place) -> LeaseState | None:
        """Who holds the lease in `place`; None if nobody does.

        `stale` is True at once if the holder's process was on this machine and is gone. Else it is
        None at the first look, False once the counter was seen moving, True when it stood still.
        """
        number = _highest(place)
        content = _read(place, number) if number else {}
        if not number or content.get("released"):
            self._seen.pop(place.address, None)
            return None
        beat, now = (number, content.get("counter")), time.monotonic()
        last, since, moved = self._seen.get(place.address, (beat, now, False))
        if last != beat:
            since, moved = now, True
        self._seen[place.address] = (beat, since, moved)
        here = machine() is not None and content.get("machine") == machine()
        gone = here and has_ended(content["pid"], content.get("process_start"))
        # A process that is there may hang or be suspended: only a moving counter shows life.
        stale = True if gone or now - since >= self.stale_after else (False if moved else None)
        return LeaseState(content.get("owner", "unknown"), stale)


class Lease:
    """Holding one stage. A context manager; `lost` is set once another process has taken over."""

    def __init__(self, place: Place, owner: str, watch: LeaseWatch, beat_seconds: float) -> None:
        self.place, self.owner, self.watch = place, owner, watch
        self.beat_seconds = beat_seconds
        self.subject = place.address.rpartition("/")[2]
        self.number = 0
        self.lost = threading.Event()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._content: dict[str, Any] = {}

    def __enter__(self) -> Lease:
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
            if _highest(self.place) == self.number:
                self._write({**self._content, "released": True})
            else:
                self.place.remove(_name(self.number))

    def check(self) -> None:
        """Raise LeaseLost unless this process still holds the stage, by a look at the folder."""
        if self.lost.is_set() or _highest(self.place) != self.number:
            self.lost.set()
            raise LeaseLost(
                f"another process has taken over {self.subject} after this one stood still for "
                f"more than {self.watch.stale_after:.0f} s; its result will be the one that counts"
            )

    def _take(self) -> bool:
        """Try once. False: not known yet, ask again. Raises Held if somebody lives there."""
        before = _highest(self.place)
        state = self.watch.state(self.place)
        if state is not None and state.stale is not True:
            if state.stale is None:
                return False
            raise Held(f"stage {self.subject} is being run by {state}")
        number = before + 1
        self._content = {
            "owner": self.owner,
            "host": socket.gethostname(),
            "machine": machine(),
            "pid": os.getpid(),
            "process_start": process_start(os.getpid()),
            "token": uuid.uuid4().hex,
            "counter": 0,
        }
        if not self.place.create(_name(number), json.dumps(self._content).encode()):
            return False
        if _highest(self.place) != number:
            # Our look was old: others have come and gone, and a higher number counts.
            self.place.remove(_name(number))
            return False
        self.number = number
        for old in _numbers(self.place):
            if old < number:
                self.place.remove(_name(old))
        return True

    def _write(self, content: dict[str, Any]) -> None:
        self.place.write(_name(self.number), json.dumps(content).encode(), durable=False)

    def _beat(self) -> None:
        while not self._done.wait(self.beat_seconds):
            try:
                if _highest(self.place) != self.number:
                    self.lost.set()
                    return
                self._content["counter"] += 1
                self._write(self._content)
            except OSError:
                # A full or unreachable store: others see us stand still, which is the truth.
                continue
