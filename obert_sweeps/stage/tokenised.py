"""Tokenised training rows, made once for all stages of the same data, tokenizer and task.

STORE/cache/stages/<key>/rows/rows.safetensors    key: a hash of all that the rows follow from
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..identity import ORIGINS, TASK_VERSIONS
from ..schema import Runtime, Stage
from ..store import Store
from ..task.array_rows import load_rows, save_rows
from ..task.base import Features, Task
from .once import made_once

_VERSION = 1  # raised when the tokenising of a task or the file's form changes
_FEW = 10_000  # rows that are tokenised in less time than it may take to wait for another's
FOLDER = "rows"
FILE = "rows.safetensors"


def training_rows(
    spec: Stage, how: Runtime, task: Task, tokenizer: Any, max_rows: int | None
) -> Callable[[], Features]:
    """How a stage gets its training rows: from the cache, filled first if need be.

    Without it, where a row is not the same each time (MLM's lines are masked and packed by the task
    itself), where rows are few or generated, and where nothing says which data they are.
    """

    def read() -> Features:
        return task.features("train", tokenizer, max_rows)

    data = spec.identity.get("data")
    few = spec.recipe["task"].get("source") == "generated" or (max_rows or _FEW) < _FEW
    if not task.rows_stay or few or data is None:
        return read

    def make(part: Path) -> None:
        save_rows(part / FILE, read())

    def cached() -> Features:
        name = key(spec.recipe["task"], data, tokenizer, max_rows)
        folder = Store(f"{how.store}/cache").folder(name)
        return load_rows(made_once(folder, FOLDER, lambda place: True, make) / FILE, "train")

    return cached


def key(task: dict[str, Any], data: Any, tokenizer: Any, max_rows: int | None) -> str:
    """What the rows follow from: data, tokenizer, the task's settings, how many rows."""
    whole = {
        "version": [_VERSION, TASK_VERSIONS.get(str(task.get("_target_")))],
        "task": {k: v for k, v in task.items() if k not in ORIGINS["task"]},
        "data": data,
        "tokenizer": [type(tokenizer).__name__, _sha256(_words(tokenizer))],
        "rows": max_rows,
    }
    return _sha256(whole)[:24]


def _words(tokenizer: Any) -> dict[str, Any]:
    """Vocabulary, normalising, splitting.

    Not how rows are cut and padded: a call says that, and the tokenizer keeps what the last one
    said, through save_pretrained too.
    """
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    return {part: whole[part] for part in whole if part not in ("truncation", "padding")}


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
