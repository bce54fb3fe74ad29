"""A place that is a folder of this machine, or one that several machines share.

What is written is written beside its place, flushed to disk and renamed.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .base import MANIFEST, manifest_of, no_room

_LITTLE = 2**16  # bytes
_MISSING = (FileNotFoundError, NotADirectoryError)


class FolderPlace:
    """See `Place`."""

    beat_seconds = 2.0
    stale_seconds = 30.0
    flush_seconds = float("inf")

    def __init__(self, path: Path) -> None:
        self.path = path

    exclusive = True

    @property
    def address(self) -> str:
        return str(self.path)

    @property
    def local(self) -> Path:
        return self.path

    def sub(self, name: str) -> FolderPlace:
        return FolderPlace(self.path / name)

    def read(self, name: str, last: int | None = None) -> bytes:
        try:
            with (self.path / name).open("rb") as file:
                if last is not None:
                    file.seek(max(0, file.seek(0, os.SEEK_END) - last))
                return file.read()
        except NotADirectoryError as error:
            raise FileNotFoundError(str(error)) from error

    def write(self, name: str, content: bytes, durable: bool = True) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        if durable:
            _flush(path.parent)

    def create(self, name: str, content: bytes) -> bool:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return True

    def append(self, name: str, lines: bytes) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        with os.fdopen(handle, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write(lines)

    def flush(self) -> None:
        """All that is appended is seen at once."""

    def names(self, folder: str = "") -> list[str]:
        try:
            return sorted(n for n in os.listdir(self.path / folder) if not n.startswith("."))
        except _MISSING:
            return []

    def drafts(self) -> list[str]:
        return [p.name for p in sorted(self.path.glob(".*.part")) if p.is_dir()]

    def size(self, name: str = "") -> int:
        path, total = self.path / name, 0
        for file in path.rglob("*") if path.is_dir() else [path]:
            with suppress(OSError):
                total += file.stat().st_size if file.is_file() else 0
        return total

    def room(self) -> int:
        return shutil.disk_usage(_there(self.path)).free

    def remove(self, name: str) -> None:
        path = self.path / name
        try:
            path.unlink()
        except (IsADirectoryError, PermissionError):
            if not path.is_dir():
                raise
            old = path.with_name(f".{path.name}.{os.getpid()}.old.part")
            os.replace(path, old)
            shutil.rmtree(old)
        except _MISSING:
            return

    @contextmanager
    def new_folder(self, name: str, check: Callable[[], None] = lambda: None) -> Iterator[Path]:
        target = self.path / name
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        self.remove_drafts(target.parent)
        part.mkdir(parents=True)
        try:
            try:
                yield part
            except Exception as error:
                _probe(part)  # libraries say in words of their own that a disk is full
                if no_room(error) and not isinstance(error, OSError):  # for them, not for a little
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part)) from error
                raise
            (part / MANIFEST).write_bytes(manifest_of(part))
            _let_read_who_reads_the_manifest(part)
            for file in part.rglob("*"):
                _flush(file)
            _flush(part)
            check()
            if target.exists():  # a non-empty folder cannot be replaced in one step
                os.replace(target, target.with_name(f".{target.name}.{os.getpid()}.old.part"))
            os.replace(part, target)
            _flush(target.parent)
        finally:
            self.remove_drafts(target.parent)

    def has_folder(self, name: str) -> bool:
        return (self.path / name).is_dir()

    def get_folder(self, name: str) -> Path:
        if not self.has_folder(name):
            raise FileNotFoundError(f"there is no folder {self.path / name}")
        return self.path / name

    def strip_folder(self, name: str, to: str) -> None:
        if self.has_folder(name):  # else an earlier call was killed half-way
            self.remove(to)
            os.replace(self.path / name, self.path / to)
        for path in (self.path / to).iterdir():
            if path.name != MANIFEST:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def publish(self, name: str) -> None:
        """It is there."""

    def check_writable(self) -> None:
        with tempfile.TemporaryDirectory(dir=_there(self.path), prefix=".probe-") as folder:
            _probe(Path(folder))

    def remove_drafts(self, folder: Path) -> None:
        """Remove what a killed process left half-written (a lease looks after its own)."""
        for part in folder.glob(".*.part"):
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            elif not part.name.startswith(".lease."):
                part.unlink(missing_ok=True)


def _there(path: Path) -> Path:
    """The nearest folder that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def _let_read_who_reads_the_manifest(folder: Path) -> None:
    """Some libraries write files that only their owner may read, whatever the umask says."""
    allowed = (folder / MANIFEST).stat().st_mode & 0o666
    for file in folder.rglob("*"):
        if file.is_file() and (mode := file.stat().st_mode) & allowed != allowed:
            file.chmod(mode & 0o777 | allowed)


def _probe(folder: Path) -> None:
    """OSError where a little cannot be written into the folder."""
    probe = folder / ".probe"
    try:
        probe.write_bytes(bytes(_LITTLE))
    finally:
        probe.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some shared file systems cannot flush a folder
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
