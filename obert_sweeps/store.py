"""Results on disk: the truth about what is done. Knows files, not what a stage means.

    ROOT/stages/<id>/ stage.json lease.<n>.json metrics.jsonl log.txt checkpoint-<step>/ model/
                      failure.json result.json
    ROOT/cells/<cell id>.seed<seed>.json    ROOT/report/    ROOT/replay/

A file or folder appears whole or not at all: it is written beside its place, flushed to disk and
renamed. `result.json` is written last and by the lease's holder only; its presence is success.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .lease import BEAT_SECONDS, STALE_SECONDS, Held, Lease, LeaseLost, LeaseState, LeaseWatch
from .schema import RequestError

__all__ = ["Held", "Lease", "LeaseLost", "LeaseState", "StageFolder", "Store"]

KEPT_CHECKPOINTS = 2

_MANIFEST = "manifest.json"
_CHECKPOINT = re.compile(r"checkpoint-\d+")
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def write_json(path: Path, content: Any) -> None:
    """Write atomically: whoever reads sees the old content or the new, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def read_json(path: Path) -> Any | None:
    """The content; None if there is no such file or it is not whole (then it does not count)."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some shared file systems cannot flush a folder
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


class StageFolder:
    """One stage's folder. Many may read it; who writes holds its lease."""

    def __init__(self, path: Path, watch: LeaseWatch, beat_seconds: float = BEAT_SECONDS) -> None:
        self.path = path
        self._watch = watch
        self._beat_seconds = beat_seconds
        self._lease: Lease | None = None

    def write_json(self, name: str, content: Any) -> None:
        """Raises LeaseLost, writing nothing, where this folder's lease was taken over."""
        self._check_lease()
        write_json(self.path / name, content)

    def read_json(self, name: str) -> Any | None:
        return read_json(self.path / name)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def log(self, text: str) -> None:
        """Add lines to log.txt, each with the time."""
        self.path.mkdir(parents=True, exist_ok=True)
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        lines = "".join(f"{stamp} {line}\n" for line in text.rstrip("\n").split("\n"))
        with (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(lines)

    def append(self, record: dict[str, Any]) -> None:
        """Add a line. A last line that a killed process left torn is cut off first."""
        if self._lease is not None and self._lease.lost.is_set():
            self._lease.check()
        self.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path / "metrics.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        with os.fdopen(handle, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write(json.dumps(record).encode() + b"\n")

    def records(self) -> list[dict[str, Any]]:
        """All whole lines; a torn one is left out."""
        lines: list[bytes] = []
        with suppress(FileNotFoundError, NotADirectoryError):
            lines = (self.path / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
        return [record for record in map(_record, lines) if record is not None]

    def last_record(self) -> dict[str, Any] | None:
        """The newest whole line, without reading the file from its start."""
        try:
            with (self.path / "metrics.jsonl").open("rb") as file:
                end, tail = file.seek(0, os.SEEK_END), b""
                while end > 0:
                    start = max(0, end - 8192)
                    file.seek(start)
                    tail, end = file.read(end - start) + tail, start
                    lines = tail.split(b"\n")[:-1]
                    for line in reversed(lines if start == 0 else lines[1:]):
                        if (record := _record(line)) is not None:
                            return record
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None

    def rewind(self, step: int) -> None:
        """Drop the records after `step`: a stage that goes on from a checkpoint logs them again."""
        self._check_lease()
        kept = [record for record in self.records() if record.get("step", 0) <= step]
        part = self.path / ".metrics.part"
        part.write_bytes(b"".join(json.dumps(record).encode() + b"\n" for record in kept))
        os.replace(part, self.path / "metrics.jsonl")

    @contextmanager
    def new_folder(self, name: str) -> Iterator[Path]:
        """Fill the yielded folder; it becomes `name` when the block ends well, else vanishes."""
        self._clean()
        part = self.path / f".{name}.{os.getpid()}.part"
        part.mkdir(parents=True)
        try:
            yield part
            files = sorted(p for p in part.rglob("*") if p.is_file())
            manifest = {p.relative_to(part).as_posix(): _digest(p) for p in files}
            for file in files:
                _flush(file)
            write_json(part / _MANIFEST, manifest)
            self._check_lease()
            target = self.path / name
            if target.exists():  # a non-empty folder cannot be replaced in one step
                os.replace(target, self.path / f".{name}.{os.getpid()}.old.part")
            os.replace(part, target)
            _flush(self.path)
        finally:
            self._clean()

    @contextmanager
    def new_checkpoint(self, step: int) -> Iterator[Path]:
        """Fill the yielded folder; it becomes `checkpoint-<step>`, and the newest two are kept."""
        with self.new_folder(f"checkpoint-{step}") as part:
            yield part
        for old in self.checkpoints()[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old)

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first; not verified."""
        paths = [p for p in self.path.glob("checkpoint-*") if _CHECKPOINT.fullmatch(p.name)]
        return sorted(paths, key=lambda path: int(path.name.partition("-")[2]))

    def latest_checkpoint(self) -> Path | None:
        """The newest checkpoint whose files are as they were written; says which were not."""
        for path in reversed(self.checkpoints()):
            if (fault := self.fault(path)) is None:
                return path
            self.log(f"{path.name} is damaged ({fault}); falling back to the one before it")
        return None

    def fault(self, folder: Path) -> str | None:
        """What differs from the manifest of a folder made by `new_folder`; None if nothing."""
        manifest = read_json(folder / _MANIFEST)
        if not isinstance(manifest, dict):
            return f"{_MANIFEST} is missing or unreadable"
        for name, digest in manifest.items():
            try:
                if _digest(folder / name) != digest:
                    return f"{name} has changed since it was written"
            except OSError:
                return f"{name} is missing or unreadable"
        return None

    def drop_checkpoints(self) -> None:
        """For a finished stage: its checkpoints are of no more use."""
        for path in self.checkpoints():
            shutil.rmtree(path)

    def _clean(self) -> None:
        """Remove what a killed process left half-written (the lease looks after its own)."""
        for part in self.path.glob(".*.part"):
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            elif not part.name.startswith(".lease."):
                part.unlink(missing_ok=True)

    @contextmanager
    def lease(self, owner: str) -> Iterator[Lease]:
        """Hold the stage. Raises Held where another living process does; takes over stale ones."""
        with Lease(self.path, owner, self._watch, self._beat_seconds) as lease:
            self._lease = lease
            try:
                yield lease
            finally:
                self._lease = None

    def lease_state(self) -> LeaseState | None:
        """Who runs the stage just now; None if nobody."""
        return self._watch.state(self.path)

    def _check_lease(self) -> None:
        if self._lease is not None:
            self._lease.check()


class Store:
    """A store folder. `stale_after` and `beat_seconds` are for tests; all drivers must agree."""

    def __init__(
        self, root: str, stale_after: float = STALE_SECONDS, beat_seconds: float = BEAT_SECONDS
    ) -> None:
        self.root = Path(root).expanduser().absolute()
        self._watch = LeaseWatch(stale_after)
        self._beat_seconds = beat_seconds

    def folder(self, stage_id: str) -> StageFolder:
        if not _ID.fullmatch(stage_id):
            raise RequestError(f"{stage_id!r} is no stage id; `obert-sweeps status` lists them")
        return StageFolder(self.root / "stages" / stage_id, self._watch, self._beat_seconds)

    def result(self, stage_id: str) -> dict[str, Any] | None:
        """What a finished stage came to; None if it is not finished."""
        result = self.folder(stage_id).read_json("result.json")
        return result if isinstance(result, dict) else None

    def ids(self) -> list[str]:
        """The stages that have a folder, finished or not."""
        return sorted(path.name for path in (self.root / "stages").glob("[!.]*") if path.is_dir())

    def failure(self, stage_id: str) -> dict[str, Any] | None:
        """Why a stage failed when it was last tried; None if it did not."""
        failure = self.folder(stage_id).read_json("failure.json")
        return failure if isinstance(failure, dict) else None

    def write_cell(self, record: dict[str, Any]) -> None:
        """`record` needs `id` and `seed`; a second writing replaces the first."""
        slug = re.sub(r"[^A-Za-z0-9_-]+", ".", str(record["id"]))
        write_json(self.root / "cells" / f"{slug}.seed{int(record['seed'])}.json", record)

    def cells(self) -> list[dict[str, Any]]:
        paths = sorted((self.root / "cells").glob("[!.]*.json"))
        return [record for record in map(read_json, paths) if isinstance(record, dict)]

    def check_writable(self) -> None:
        """Raises RequestError if nothing can be written here. Leaves nothing behind."""
        place = self.root
        try:
            while not place.exists():
                place = place.parent
            with tempfile.TemporaryDirectory(dir=place, prefix=".probe-"):
                pass
        except OSError as error:
            raise RequestError(
                f"the store {self.root} cannot be written: {error.strerror or error}. "
                "Name a folder that can be, for example: obert-sweeps run store=$HOME/runs"
            ) from error
