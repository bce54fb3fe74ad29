"""One stage's folder in a store: its records, its folders, and who writes there."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .lease import Held, Lease, LeaseState, LeaseWatch
from .place import Place
from .place.base import fault

KEPT_CHECKPOINTS = 2
ROOM_FOR = 2  # so many times the last checkpoint's size must be free, or an older one goes early

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_FREED = ".freed"


def json_bytes(content: Any) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def read_json(place: Place, name: str) -> Any | None:
    """The content; None if there is no such file or it is not whole (then it does not count)."""
    try:
        return json.loads(place.read(name))
    except (FileNotFoundError, ValueError):
        return None


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


class StageFolder:
    """One stage's folder. Many may read it; who writes holds its lease."""

    def __init__(self, place: Place, watch: LeaseWatch, beat_seconds: float) -> None:
        self.place = place
        self._watch = watch
        self._beat_seconds = beat_seconds
        self._lease: Lease | None = None
        self._flushed = time.monotonic()

    @property
    def path(self) -> Path:
        """Where it lies on this machine, of a store that is a folder."""
        return self.place.local

    def where(self, name: str) -> str:
        """The address of what is in it, for people."""
        return f"{self.place.address}/{name}"

    def write_json(self, name: str, content: Any) -> None:
        """Raises LeaseLost, writing nothing, where this folder's lease was taken over."""
        written = json_bytes(content)
        self._flush()
        self.place.write(name, written)

    def read_json(self, name: str) -> Any | None:
        return read_json(self.place, name)

    def result(self) -> dict[str, Any] | None:
        """What the stage came to; None if it is not finished, or what is there is no result."""
        result = self.read_json("result.json")
        whole = isinstance(result, dict) and {"status", "metrics"} <= result.keys()
        return result if whole else None

    def remove(self, name: str) -> None:
        self.place.remove(name)

    def log(self, text: str) -> None:
        """Add lines to log.txt, each with the time."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        lines = "".join(f"{stamp} {line}\n" for line in text.rstrip("\n").split("\n"))
        self.place.append("log.txt", lines.encode())
        if self._lease is None:
            self.place.flush()

    def log_tail(self, lines: int) -> list[str]:
        """The last lines of log.txt."""
        try:
            text = self.place.read("log.txt", last=200 * lines).decode(errors="replace")
        except FileNotFoundError:
            return []
        return text.splitlines()[-lines:]

    def append(self, record: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl. Raises LeaseLost once it is known."""
        if self._lease is not None and self._lease.lost.is_set():
            self._lease.check()
        self.place.append("metrics.jsonl", json.dumps(record).encode() + b"\n")
        if self._lease is None or time.monotonic() - self._flushed > self.place.flush_seconds:
            self._flush()

    def record_lines(self) -> list[bytes]:
        """All whole lines of metrics.jsonl, read or not."""
        try:
            return self.place.read("metrics.jsonl").split(b"\n")[:-1]
        except FileNotFoundError:
            return []

    def records(self) -> list[dict[str, Any]]:
        """All whole lines; a torn one is left out."""
        return [record for record in map(_record, self.record_lines()) if record is not None]

    def last_record(self) -> dict[str, Any] | None:
        """The newest whole line, without reading the file from its start."""
        last = 8192
        while True:
            try:
                tail = self.place.read("metrics.jsonl", last)
            except FileNotFoundError:
                return None
            whole = len(tail) < last
            lines = tail.split(b"\n")[:-1]
            for line in reversed(lines if whole else lines[1:]):
                if (record := _record(line)) is not None:
                    return record
            if whole:
                return None
            last *= 8

    def rewind(self, step: int) -> None:
        """Drop the records after `step`: a stage that goes on from a checkpoint logs them again."""
        kept = [record for record in self.records() if record.get("step", 0) <= step]
        self._check_lease()
        self.place.write(
            "metrics.jsonl", b"".join(json.dumps(record).encode() + b"\n" for record in kept)
        )

    @contextmanager
    def new_folder(self, name: str) -> Iterator[Path]:
        """Fill the yielded folder; it becomes `name` when the block ends well, else vanishes."""
        with self.place.new_folder(name, self._flush) as part:
            yield part
        self.place.remove(name + _FREED)

    def get_folder(self, name: str) -> Path | None:
        """A folder made by `new_folder`, on this machine; None if there is none. Not verified."""
        try:
            return self.place.get_folder(name)
        except FileNotFoundError:
            return None

    def has_folder(self, name: str) -> bool:
        return self.place.has_folder(name)

    def free_folder(self, name: str) -> None:
        """Remove what a folder holds, and keep its manifest: it can be made again when needed."""
        self.place.strip_folder(name, name + _FREED)

    def freed(self, name: str) -> bool:
        """Was the folder freed, and not made again since?"""
        return self.place.has_folder(name + _FREED) and not self.place.has_folder(name)

    @contextmanager
    def new_checkpoint(self, step: int) -> Iterator[Path]:
        """Fill the yielded folder; it becomes `checkpoint-<step>`, and the newest two are kept.

        While it is written there are three. Where the disk has little room, one goes before.
        """
        there = self.checkpoints()
        if there and self.place.room() < ROOM_FOR * self.size(there[-1]):
            for old in there[:-1]:
                self.place.remove(old)
        with self.new_folder(f"checkpoint-{step}") as part:
            yield part
        for old in self.checkpoints()[:-KEPT_CHECKPOINTS]:
            self.place.remove(old)

    def checkpoints(self) -> list[str]:
        """Names of complete checkpoints, oldest first; not verified."""
        found = {int(m[1]): m[0] for m in map(_CHECKPOINT.fullmatch, self.place.names()) if m}
        return [found[step] for step in sorted(found) if self.place.has_folder(found[step])]

    def latest_checkpoint(self) -> Path | None:
        """The newest checkpoint whose files are as they were written; says which were not."""
        for name in reversed(self.checkpoints()):
            if (path := self.get_folder(name)) is not None:
                if (broken := fault(path)) is None:
                    return path
                self.log(f"{name} is damaged ({broken}); falling back to the one before it")
        return None

    def drop_checkpoints(self) -> None:
        """For a finished stage: its checkpoints are of no more use."""
        for name in filter(_CHECKPOINT.fullmatch, self.place.names()):
            self.place.remove(name)

    def drafts(self) -> list[str]:
        """Folders that a killed process left half-written, or that the holder writes just now."""
        return self.place.drafts()

    def size(self, name: str = "") -> int:
        """Bytes of the folder, or of what is called so in it."""
        return self.place.size(name)

    @contextmanager
    def lease(self, owner: str) -> Iterator[Lease]:
        """Hold the stage. Raises Held where another living process does; takes over stale ones."""
        with Lease(self.place, owner, self._watch, self._beat_seconds) as lease:
            self._lease = lease
            try:
                yield lease
            finally:
                with suppress(Held, OSError):
                    self._flush()
                self._lease = None

    def lease_state(self) -> LeaseState | None:
        """What is known of the stage's lease; None if nobody has taken it, or it was given back."""
        return self._watch.state(self.place)

    def holder(self) -> LeaseState | None:
        """Who runs the stage just now; None if nobody. Who is not known to be gone still does."""
        state = self.lease_state()
        return None if state is None or state.stale else state

    def _check_lease(self) -> None:
        if self._lease is not None:
            self._lease.check()

    def _flush(self) -> None:
        """Before anything that others see is written: the lease is held, the records are there."""
        self._check_lease()
        self.place.flush()
        self._flushed = time.monotonic()
