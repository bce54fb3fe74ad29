"""What a plan reads of data and checkpoints: are they there, how large, and their digest.

Nothing heavy is imported and nothing is written but a cache of digests by path, size and times.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..model.check import check_checkpoint, checkpoint_files
from ..schema import RequestError
from ..store.place import FolderPlace
from ..task.check import check_folder
from .recorded import Recorded


class Blocked(Exception):
    """A cell cannot run with what is at hand; the others can. The message is the reason."""


@dataclass
class DataFacts:
    """Rows by split, and what identifies the rows."""

    rows: dict[str, int]
    fingerprint: Any
    gone: str | None = None  # why the rows are not at hand; they are those that a store recorded


@dataclass
class Inputs:
    """Facts about inputs, each looked up once for a plan.

    `recorded` says what inputs that are gone were; facts about those have the reason as `gone`.
    """

    recorded: Recorded = field(default_factory=lambda: Recorded(None))
    digests: Digests = field(default_factory=lambda: Digests())
    data: dict[str, DataFacts] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)

    def data_of(self, task: dict[str, Any]) -> DataFacts:
        """Rows and fingerprint of a task's data.

        Raises Blocked when they are not at hand, RequestError when they are there but broken.
        """
        key = json.dumps(task, sort_keys=True, default=str)
        if key not in self.data:
            try:
                self.data[key] = self._read_data(task)
            except Blocked as reason:
                if (known := self.recorded.fingerprint("task", task)) is None:
                    raise
                self.data[key] = DataFacts({}, known, gone=str(reason))
        return self.data[key]

    def _read_data(self, task: dict[str, Any]) -> DataFacts:
        if task["source"] == "generated":
            generator = task["generator"]
            rows = {k.removesuffix("_rows"): v for k, v in generator.items() if k.endswith("_rows")}
            return DataFacts(rows, {"generator": generator})
        if task["source"] == "hub":
            rows = dict(task.get("official_rows") or {})
            keys = ("hub", "hub_config", "revision", "hub_splits", "more_hub")
            return DataFacts(rows, {key: task[key] for key in keys if key in task})
        files = data_files(task)
        absent = [f for f in files if not f.is_file()]
        if "corpus" in task and len(absent) == len(files):
            raise Blocked(_no_texts(task, files))
        if absent:
            raise Blocked(
                f"the data of {task['name']} was not found: {absent[0]} does not exist. "
                "Put the file there, or name another folder with data_root=DIR or task.data=NAME"
            )
        rows = check_folder(task)
        digests = [self.digests.of(file) for file in files]
        if "corpus" in task:
            columns = [part["text_columns"] for part in task["corpus"]]
            return DataFacts(rows, [list(pair) for pair in zip(digests, columns, strict=True)])
        return DataFacts(rows, {f.name: d for f, d in zip(files, digests, strict=True)})

    def weights_of(self, model: dict[str, Any]) -> dict[str, Any]:
        """What identifies the weights a model starts from, its dimensions, and if it is `gone`.

        Raises Blocked when there is no checkpoint to start from, RequestError for a broken one.
        """
        key = json.dumps(model, sort_keys=True, default=str)
        if key not in self.weights:
            self.weights[key] = self._gone(model) or self._read_weights(model)
        return self.weights[key]

    def _gone(self, model: dict[str, Any]) -> dict[str, Any] | None:
        """Of a checkpoint whose folder is not there, and which is on record."""
        path = model.get("path")
        if not path or Path(path).is_dir():
            return None
        known = self.recorded.fingerprint("model", model)
        reason = f"there is no model folder {path}"
        config = model["config"]
        return known and {"fingerprint": known, "config": config, "gone": reason}

    def _read_weights(self, model: dict[str, Any]) -> dict[str, Any]:
        if model.get("path"):
            dimensions = check_checkpoint(model["path"])
            files = checkpoint_files(model["path"])
            digests = {file.name: self.digests.of(file) for file in files}
            return {"fingerprint": digests, "config": dimensions}
        if model.get("hub"):
            fingerprint = {"hub": model["hub"], "revision": model.get("revision")}
            return {"fingerprint": fingerprint, "config": model["config"]}
        if not model.get("from_config"):
            raise Blocked(
                f"no checkpoint for {model['name']} in this preset. Give one with: "
                f"model={model['name']} model.path=DIR"
            )
        return {"fingerprint": {"config": model["config"]}, "config": model["config"]}


def _no_texts(task: dict[str, Any], files: list[Path]) -> str:
    """Why a corpus of which no file is there is none, and how to do with or without one."""
    name = task["name"]
    looked = ", ".join(f"{f.parent.name}/{f.name}" for f in files) or "nothing, as its corpus is []"
    return (
        f"the data of {name} was not found: it learns from the training texts of the tasks in"
        f" {task['folder']}, and none is there; looked for: {looked}. Put one there, or name"
        f" your own: 'preset.task.{name}.corpus"
        "=[{data: NAME, folder: null, text_columns: [COLUMN]}]'. Where it is only the"
        " preset that begins with it, a pretrained checkpoint can do without: preset.pretrain=null"
        " model.path=DIR"
    )


def data_files(task: dict[str, Any]) -> list[Path]:
    """The parquet files a task reads from its folder. RequestError if none is named."""
    for part in task.get("corpus", [task]):
        if part.get("folder") is None:
            way = "data_root=DIR" if "corpus" in task else "data_root=DIR or task.folder=DIR"
            raise RequestError(
                f"task {task['name']} reads a folder and none is named: use {way}, with"
                " DIR/<split>.parquet in a task's own folder and DIR/<task>/<split>.parquet"
                " below data_root."
            )
    if "corpus" in task:
        return [Path(c["folder"]) / "train.parquet" for c in task["corpus"]]
    splits = ["train", *(task.get("evaluation_splits") or ["validation"])]
    return [Path(task["folder"]) / f"{split}.parquet" for split in splits]


class Digests:
    """SHA-256 of files, remembered by path, size and times.

    A copy or an archive may give other content the old time of modification, but not of change.
    """

    def __init__(self) -> None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.path = home / "obert-sweeps" / "file-digests.json"
        try:
            self.known: dict[str, list[Any]] = json.loads(self.path.read_text())
        except (OSError, ValueError):
            self.known = {}

    def of(self, file: Path) -> str:
        try:
            file = file.resolve()
            stat = file.stat()
            seen = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
            entry = self.known.get(str(file))
            if entry and entry[:-1] == seen:
                return str(entry[-1])
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise RequestError(f"cannot read {file}: {error.strerror}.") from error
        self.known[str(file)] = [*seen, digest]
        self._remember()
        return digest

    def _remember(self) -> None:
        try:
            known = json.dumps(self.known).encode()
            FolderPlace(self.path.parent).write(self.path.name, known, durable=False)
        except OSError:
            return  # a cache that cannot be written costs a second look, nothing else
