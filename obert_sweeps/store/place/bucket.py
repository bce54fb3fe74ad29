"""A place in an object store, by URL: what is written there appears whole, so nothing is renamed.

A folder is uploaded file by file and counts from the moment its manifest is there, which comes last
and goes first. What is appended lies in a file of this machine and is uploaded when others should
see it. Folders that are used here are copied to this machine once.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from ...schema import RequestError
from .base import MANIFEST, fault
from .folder import FolderPlace

_can_create: dict[str, bool] = {}  # by address of the whole place, in this process


class Unreachable(OSError, RequestError):
    """The object store did not do what it was asked."""


class BucketPlace:
    """See `Place`. Credentials and endpoint come from where the provider's own tools look."""

    beat_seconds = 10.0
    stale_seconds = 90.0
    flush_seconds = 20.0
    settle_seconds = 2.0  # between a write and reading it back, where keys cannot be created

    def __init__(self, url: str) -> None:
        self.address = url.rstrip("/")
        try:
            self._fs, path = fsspec.core.url_to_fs(self.address, use_listings_cache=False)
        except ImportError as error:
            raise RequestError(
                f"store={url}: {error}. For S3: pip install -c constraints.txt -e '.[s3]'"
            ) from error
        except ValueError as error:
            raise RequestError(f"store={url}: {error}. Use a folder, or s3://BUCKET/…") from error
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", self.address)
        self._start(self.address, path.rstrip("/"), cache / "obert-sweeps" / slug, "")

    def _start(self, whole: str, path: str, root: Path, below: str) -> None:
        self._whole, self._path, self._root, self._below = whole, path, root, below
        self.local = root / below
        self._desk = FolderPlace(self.local)  # what is appended, and folders while they are filled
        self._copies = FolderPlace(root / "copies" / below)
        self._open: set[str] = set()  # files that are appended to here
        self._unseen: set[str] = set()  # those of them with lines that were not uploaded

    def sub(self, name: str) -> BucketPlace:
        part = object.__new__(BucketPlace)
        part.address, part._fs = f"{self.address}/{name}", self._fs
        part._start(self._whole, f"{self._path}/{name}", self._root, f"{self._below}/{name}"[1:])
        return part

    @property
    def exclusive(self) -> bool:
        """Can the back end create a key only if there is none? Tried once a process."""
        if self._whole not in _can_create:
            path = self._at(f".probe-{uuid.uuid4().hex}")
            self._call(self._fs.pipe_file, path, b"1")
            try:
                self._fs.pipe_file(path, b"2", mode="create")
            except FileExistsError:
                _can_create[self._whole] = True
            except Exception:  # an argument or a header that it does not know
                _can_create[self._whole] = False
            else:
                _can_create[self._whole] = False
            self._call(self._fs.rm_file, path)
        return _can_create[self._whole]

    def read(self, name: str, last: int | None = None) -> bytes:
        if name in self._open:
            return self._desk.read(name, last)
        content: bytes = self._call(self._fs.cat_file, self._at(name))
        return content if last is None else content[-last:]

    def write(self, name: str, content: bytes, durable: bool = True) -> None:
        self._open.discard(name)
        self._unseen.discard(name)
        self._desk.remove(name)
        self._call(self._fs.pipe_file, self._at(name), content)

    def create(self, name: str, content: bytes) -> bool:
        path = self._at(name)
        if not self.exclusive:
            return self._create_and_look(name, content)
        try:
            self._call(self._fs.pipe_file, path, content, mode="create")
        except OSError as error:
            found = self._found(name)
            if found is None and not isinstance(error, FileExistsError):
                raise
            return found == content  # where the answer to a first try was lost, it was ours
        return True

    def _create_and_look(self, name: str, content: bytes) -> bool:
        """As good as it gets where two can write the same key: the last one's stays, and all look.

        It fails where a write takes longer than `settle_seconds`.
        """
        if self._found(name) is not None:
            return False
        self._call(self._fs.pipe_file, self._at(name), content)
        time.sleep(self.settle_seconds)
        return self._found(name) == content

    def append(self, name: str, lines: bytes) -> None:
        if name not in self._open:
            seen = self._found(name) or b""
            with suppress(FileNotFoundError):
                here = self._desk.read(name)
                seen = here if here.startswith(seen) else seen
            self._desk.write(name, seen, durable=False)
            self._open.add(name)
        self._desk.append(name, lines)
        self._unseen.add(name)

    def flush(self) -> None:
        for name in sorted(self._unseen):
            self._call(self._fs.pipe_file, self._at(name), self._desk.read(name))
            self._unseen.discard(name)

    def names(self, folder: str = "") -> list[str]:
        try:
            paths = self._call(self._fs.ls, self._at(folder), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = {PurePosixPath(path).name for path in paths if path.rstrip("/") != self._at(folder)}
        return sorted(name for name in names if not name.startswith("."))

    def drafts(self) -> list[str]:
        return self._desk.drafts()

    def size(self, name: str = "") -> int:
        return sum(int(file["size"] or 0) for file in self._files(name).values())

    def room(self) -> int:
        return self._desk.room()

    def remove(self, name: str) -> None:
        self._copies.remove(name)
        self._desk.remove(name)
        self._open.discard(name)
        self._unseen.discard(name)
        self._vanish(name)

    def _vanish(self, name: str) -> None:
        """Remove it from the bucket. What is a whole folder stops being one first."""
        for path in sorted(self._files(name), key=lambda path: not path.endswith(f"/{MANIFEST}")):
            with suppress(FileNotFoundError):
                self._call(self._fs.rm_file, path)

    @contextmanager
    def new_folder(self, name: str, check: Callable[[], None] = lambda: None) -> Iterator[Path]:
        with self._desk.new_folder(name) as part:
            yield part
        made = self._desk.get_folder(name)
        try:
            check()
            self._vanish(name)
            for file in sorted(p for p in made.rglob("*") if p.is_file()):
                if (inside := file.relative_to(made).as_posix()) != MANIFEST:
                    self._call(self._fs.put_file, str(file), self._at(f"{name}/{inside}"))
            manifest = (made / MANIFEST).read_bytes()
            self._call(self._fs.pipe_file, self._at(f"{name}/{MANIFEST}"), manifest)
            self._keep(made, name)
        finally:
            self._desk.remove(name)

    def has_folder(self, name: str) -> bool:
        return self._found(f"{name}/{MANIFEST}") is not None

    def get_folder(self, name: str) -> Path:
        manifest = self._found(f"{name}/{MANIFEST}")
        if manifest is None:
            raise FileNotFoundError(f"there is no folder {self.address}/{name}")
        copy = self._copies.path / name
        with suppress(OSError):
            if (copy / MANIFEST).read_bytes() == manifest and fault(copy) is None:
                return copy
        draft = copy.with_name(f".{copy.name}.{os.getpid()}.{threading.get_ident()}.part")
        try:
            for inside in _listed(manifest):
                (draft / inside).parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # the reader will find that it is missing
                    at = self._at(f"{name}/{inside}")
                    self._call(self._fs.get_file, at, str(draft / inside))
            draft.mkdir(parents=True, exist_ok=True)
            (draft / MANIFEST).write_bytes(manifest)
            self._keep(draft, name)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return copy

    def strip_folder(self, name: str, to: str) -> None:
        manifest = self._found(f"{name}/{MANIFEST}")
        if manifest is not None:
            self.write(f"{to}/{MANIFEST}", manifest)
        self.remove(name)

    def publish(self, name: str) -> None:
        folder = self.local / name
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            inside = file.relative_to(self.local).as_posix()
            self._call(self._fs.put_file, str(file), self._at(inside))

    def check_writable(self) -> None:
        self.local.mkdir(parents=True, exist_ok=True)
        name = f".probe-{uuid.uuid4().hex}"
        self._call(self._fs.pipe_file, self._at(name), b"")
        self._call(self._fs.rm_file, self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path

    def _files(self, name: str) -> dict[str, dict[str, Any]]:
        try:
            found = self._call(self._fs.find, self._at(name), detail=True)
        except FileNotFoundError:
            return {}
        return dict(found)

    def _found(self, name: str) -> bytes | None:
        try:
            content: bytes = self._call(self._fs.cat_file, self._at(name))
        except FileNotFoundError:
            return None
        return content

    def _keep(self, folder: Path, name: str) -> None:
        """Let a folder of this machine be its copy of `name`. Somebody else's equal one will do."""
        self._copies.remove(name)
        copy = self._copies.path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            os.replace(folder, copy)

    def _call(self, action: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """Do it; what the back end's library raises of its own becomes an OSError."""
        try:
            return action(*arguments, **more)
        except OSError:
            raise
        except Exception as error:
            raise Unreachable(
                f"the store {self._whole} did not answer as it should: "
                f"{type(error).__name__}: {error}. See: obert-sweeps doctor store={self._whole}"
            ) from error


def _listed(manifest: bytes) -> list[str]:
    """The names in a manifest; none that would lead out of the folder."""
    try:
        names = [str(name) for name in json.loads(manifest)]
    except (ValueError, TypeError):
        return []
    parts = ((name, PurePosixPath(name)) for name in names)
    return [name for name, path in parts if not path.is_absolute() and ".." not in path.parts]
