"""The demo's data: eight tasks and a corpus from one grammar, with the hub data sets' columns.

Deterministic for a seed and a version, and free of torch. Each split has a random stream of its
own, and no training text stands in the validation split.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from ..schema import RequestError, StageError
from .demo_tasks import MAKERS, Row, mismatched_mnli

VERSION = 1  # raise it when any generated row changes

OPTIONS = ("train_rows", "validation_rows", "seed", "version")
_ATTEMPTS = 200  # per row, before the grammar counts as exhausted


def rows(
    task: str,
    split: str,
    *,
    train_rows: int,
    validation_rows: int,
    seed: int = 0,
    version: int = VERSION,
) -> list[Row]:
    """The rows of `train`, `validation` or (mnli) `validation_mismatched`, no text twice.

    `task` is one of the eight names or `corpus`. Labels are balanced as MAKERS says. Raises
    StageError for an unknown split, or where the grammar has too few texts.
    """
    if task not in MAKERS or split not in _splits(task):
        raise StageError(
            f"the demo's grammar has no {task}, split {split}. It has {', '.join(MAKERS)}, each "
            "with train and validation."
        )
    banned: set[tuple[str, ...]] = set()
    if split == "train":
        for other in _splits(task)[1:]:
            banned |= {_key(task, row) for row in _draw(task, other, validation_rows, seed, set())}
    count = train_rows if split == "train" else validation_rows
    return _draw(task, split, count, seed, banned)


def check_options(task: str, options: Mapping[str, Any]) -> None:
    """Raises RequestError for options of `rows` that are unknown, absent or impossible."""
    faults = [f"{key} is unknown" for key in options if key not in OPTIONS]
    faults += [f"{key} is missing" for key in OPTIONS[:2] if key not in options]
    for key, value in options.items():
        if not isinstance(value, int) or (key.endswith("_rows") and value < 1):
            faults.append(f"{key}={value} is not a positive whole number")
    if options.get("version", VERSION) != VERSION:
        faults.append(
            f"version={options['version']} of the grammar is not the one here ({VERSION})"
        )
    if task not in MAKERS:
        faults.append(f"there is no grammar for {task}, only for {', '.join(MAKERS)}")
    if faults:
        raise RequestError(
            f"task {task}: the generator's options are wrong: {'; '.join(faults)}. For "
            "instance: task.generator.train_rows=3000"
        )


def _splits(task: str) -> tuple[str, ...]:
    extra = ("validation_mismatched",) if task == "mnli" else ()
    return ("train", "validation", *extra)


def _key(task: str, row: Row) -> tuple[str, ...]:
    return tuple(row[column].lower() for column in MAKERS[task].columns)


def _draw(task: str, split: str, count: int, seed: int, banned: set[tuple[str, ...]]) -> list[Row]:
    maker = MAKERS[task]
    rng = Random(f"{VERSION}/{seed}/{task}/{split}")
    cycle = [label for label, weight in enumerate(maker.weights) for _ in range(weight)]
    seen = set(banned)
    found: list[Row] = []
    for _ in range(_ATTEMPTS * count):
        if len(found) == count:
            break
        label = cycle[len(found) % len(cycle)]
        if split == "validation_mismatched":
            row = mismatched_mnli(rng, label)
        else:
            row = maker.make(rng, label)
        key = _key(task, row)
        if key not in seen:
            seen.add(key)
            if maker.labelled:
                row["label"] = float(label) if task == "stsb" else label
            found.append(row)
    if len(found) < count:
        raise StageError(
            f"the demo's grammar yields only {len(found)} of {count} different rows of {task}, "
            f"split {split}. Ask for fewer: task.generator.train_rows=N"
        )
    rng.shuffle(found)
    for place, row in enumerate(found):
        row["id" if task == "squad" else "idx"] = f"demo-{place}" if task == "squad" else place
    return found
