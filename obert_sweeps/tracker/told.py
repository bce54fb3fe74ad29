"""What a W&B run was told, as a digest that lies beside it: whether it is whole, and of what.

STORE/wandb/<offline-run or run>-<time>-<run id>/told.json
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .run_content import Ending

FORMAT = 1  # raise it when runs are written in another way: `sync` then writes them anew
MARK = "told.json"
ONLINE = "run-"  # how W&B names the folders of runs that it uploads as they are written


class Told:
    """A digest of a run's opening, rows and ending, in the order they are told."""

    def __init__(self, opening: Mapping[str, Any]) -> None:
        self.run = str(opening["id"])
        self._hash = hashlib.sha256(str(FORMAT).encode())
        self.add(opening)

    def add(self, part: Any) -> None:
        self._hash.update(json.dumps(part, sort_keys=True, default=str).encode() + b"\n")

    def end(self, ending: Ending) -> None:
        parts = asdict(ending)
        # Where a report lies is not what it says: the summary has the digests of its files.
        self.add(parts | {"files": [Path(path).name for path in ending.files]})

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


@dataclass(frozen=True)
class Written:
    """A run's folder in the store; `digest` is None where the run is not whole."""

    folder: Path
    run: str
    digest: str | None
    url: str | None

    @property
    def online(self) -> bool:
        return self.folder.name.startswith(ONLINE)


def mark(folder: Path, told: Told, url: str | None) -> None:
    """Say that the run in `folder` is whole."""
    part = folder / f".{MARK}.part"
    part.write_text(json.dumps({"run": told.run, "digest": told.digest, "url": url}) + "\n")
    os.replace(part, folder / MARK)


def written(wandb_folder: Path) -> Iterator[Written]:
    """The folders of all runs, in the order of their names: oldest first."""
    for file in sorted(wandb_folder.glob("*run-*-*/run-*.wandb")):
        run = file.name.removeprefix("run-").removesuffix(".wandb")
        try:
            said = json.loads((file.parent / MARK).read_text())
        except (OSError, ValueError):
            said = {}
        yield Written(file.parent, run, said.get("digest"), said.get("url"))


def drop(folder: Path) -> None:
    """Remove a run's folder. The mark goes first: half a folder must not pass for a whole run."""
    (folder / MARK).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
