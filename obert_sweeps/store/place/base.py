"""What a store asks of the place where its files lie.

Names are relative to the place, with slashes. Files and folders appear whole or not at all. A
folder that was made by `new_folder` is one thing: it holds a `manifest.json` with the SHA-256 of
each other file, and nothing in it changes afterwards.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

MANIFEST = "manifest.json"


class Place(Protocol):
    """`address` is what a person types; `local` a folder on this machine for what must be there."""

    beat_seconds: float  # how often a lease's holder says that it lives
    stale_seconds: float  # how long a lease may stand still
    flush_seconds: float  # how much of what was appended a reader may miss

    @property
    def address(self) -> str: ...

    @property
    def local(self) -> Path: ...

    @property
    def exclusive(self) -> bool:
        """Does `create` keep its promise? Else it is kept only where writes are quick."""

    def sub(self, name: str) -> Place:
        """The same place, seen from a folder in it, which need not exist."""

    def read(self, name: str, last: int | None = None) -> bytes:
        """A file's content, or its `last` bytes. FileNotFoundError if there is none."""

    def write(self, name: str, content: bytes, durable: bool = True) -> None:
        """Write a file: whoever reads sees the old content or the new. Where it need not be
        `durable`, a power cut may take it back."""

    def create(self, name: str, content: bytes) -> bool:
        """Write a file only if there is none: of several who try, one gets True."""

    def append(self, name: str, lines: bytes) -> None:
        """Add whole lines. A last line that a killed process left torn is cut off first."""

    def flush(self) -> None:
        """Let everybody see what was appended."""

    def names(self, folder: str = "") -> list[str]:
        """Files and folders in a folder, sorted; nothing if there is no such folder. Drafts, whose
        names begin with a dot, are left out."""

    def drafts(self) -> list[str]:
        """What killed processes left half-written here, on this machine; or what one writes now."""

    def size(self, name: str = "") -> int:
        """Bytes of a file, or of all below a folder; what vanishes meanwhile counts nothing."""

    def room(self) -> int:
        """Bytes that are free on the disk where folders are filled."""

    def remove(self, name: str) -> None:
        """Remove a file, or a folder at one stroke; nothing happens if there is none."""

    def new_folder(
        self, name: str, check: Callable[[], None] = lambda: None
    ) -> AbstractContextManager[Path]:
        """Fill the yielded folder; it becomes `name` when the block ends well, else vanishes.

        `check` is called when all is written, before it can be seen: what it raises undoes it.
        """

    def has_folder(self, name: str) -> bool:
        """Is there a whole folder of this name? It is not verified."""

    def get_folder(self, name: str) -> Path:
        """A whole folder as a folder on this machine, not to be changed. FileNotFoundError."""

    def strip_folder(self, name: str, to: str) -> None:
        """Leave nothing of a whole folder but its manifest, as the folder `to`. Needs no space."""

    def publish(self, name: str) -> None:
        """Let everybody see a folder of `local` as it is now. It is not one thing."""

    def check_writable(self) -> None:
        """OSError if nothing can be written here. Leaves nothing behind."""


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_DISK = (errno.EROFS, errno.ESTALE)
_FULL = re.compile(r"No space left on device|Disk quota exceeded|os error (28|122)\b")


def cannot_write(error: BaseException) -> str | None:
    """What is wrong with the disk, or with permissions, and what to do; None if it is not that."""
    denied = isinstance(error, PermissionError) and bool(error.filename)
    if not isinstance(error, OSError) or not (denied or error.errno in _NO_ROOM + _NO_DISK):
        return None
    if denied:
        return (
            f"cannot read or write {error.filename}: {error.strerror}. Give yourself permission "
            "(see: ls -l, chmod, chown); then type the same command again."
        )
    mend = "Mend this"
    if error.errno in _NO_ROOM:
        mend = "Free some (see: obert-sweeps gc)"
    where = f" ({error.filename})" if error.filename else ""
    return (
        f"the store cannot be written: {error.strerror}{where}. {mend}; then the same "
        "command continues from what is there."
    )


def no_room(error: BaseException) -> bool:
    """Does a library say in words of its own that the disk is full?"""
    return bool(_FULL.search(str(error)))


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_of(folder: Path) -> bytes:
    """The manifest of the files below a folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)
    listed = {p.relative_to(folder).as_posix(): digest(p) for p in files}
    return (json.dumps(listed, indent=1) + "\n").encode()


def fault(folder: Path) -> str | None:
    """What differs in a folder on this machine from its manifest; None if nothing."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        manifest = None
    if not isinstance(manifest, dict):
        return f"{MANIFEST} is missing or unreadable"
    for name, expected in manifest.items():
        try:
            if digest(folder / name) != expected:
                return f"{name} has changed since it was written"
        except OSError:
            return f"{name} is missing or unreadable"
    return None
