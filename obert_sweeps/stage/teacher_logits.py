"""A stage that asks a teacher once, for every student of its task: its logits of each training row.

    <stage>/logits/logits.safetensors   (see train.teacher), with the identity of what it holds

A student looks at that identity itself: what is missing, damaged or of another teacher, other rows
or another precision is made again before it is used, by one of those who need it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..make import make
from ..model.base import Encoder
from ..schema import Runtime, Stage
from ..store import Store
from ..task.base import Task
from ..train.cost import cost, read_clocks, spent_since
from ..train.data import Data
from ..train.evaluate import row_logits
from ..train.machine import environment, prepare_torch
from ..train.start import load_teacher
from ..train.teacher import (
    LiveTeacher,
    Teacher,
    identity_in,
    load_logits,
    rows_digest,
    save_logits,
)
from ..worker_group import WorkerGroup
from .base import Desk, Result
from .files import parent_models
from .once import found, made_once
from .tokenised import training_rows

FOLDER = "logits"
FILE = "logits.safetensors"


@dataclass
class Asked:
    """A teacher, what it is asked, and how."""

    teacher: str  # its stage
    load: Callable[[], nn.Module]
    task: Task
    data: Data
    precision: str
    device: torch.device
    group: WorkerGroup

    def identity(self) -> str:
        whole = {
            "teacher": self.teacher,
            "rows": rows_digest(self.data.train.rows),
            "precision": self.precision,
        }
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

    def answer(self, part: Path | None) -> None:
        """Ask, together with the other workers, and write what is said into the folder `part`."""
        said = row_logits(
            self.load().to(self.device),
            self.task,
            self.data.train,
            self.data.pad_token_id,
            self.device,
            self.precision,
            group=self.group,
            read=lambda outputs, _: self.task.head.logits(outputs),
        )
        if part is not None:
            save_logits(part / FILE, said, self.task.head.per_token, self.identity())


def teacher_logits_stage(
    spec: Stage, how: Runtime, group: WorkerGroup, desk: Desk | None
) -> Result | None:
    clocks = read_clocks()
    recipe, allowed, asking = spec.recipe, how.allow_targets, spec.recipe["logits"]
    device = prepare_torch(how)
    task = make(recipe["task"], allowed, Task)  # type: ignore[type-abstract]
    encoder = make(recipe["model"], allowed, Encoder)  # type: ignore[type-abstract]
    folder = parent_models(spec, how)["teacher"]
    tokenizer = encoder.tokenizer(str(folder))
    size = 0 if tokenizer is None else len(tokenizer)  # a model folder has one
    most = asking["max_train_rows"]
    rows = training_rows(spec, how, task, tokenizer, most)
    data = Data(task, tokenizer, most, training_rows=rows)

    def load() -> nn.Module:
        return load_teacher(task, encoder, size, folder)

    asked = Asked(spec.parents["teacher"], load, task, data, asking["precision"], device, group)
    if desk is None:
        asked.answer(None)
        return None
    with desk.folder.new_folder(FOLDER) as part:
        asked.answer(part)
    return {
        "id": spec.id,
        "status": "done",
        "metrics": {},
        "final_metrics": {},
        "rows": len(data.train),
        "cost": cost(spent_since(clocks), device, group.size),
        "environment": environment(how, device, group.size),
    }


def teacher_of(
    asked: Asked, logits: str | None, how: Runtime, note: Callable[[str], None]
) -> Teacher:
    """What a student learns from: the logits of the stage `logits`, or the teacher itself.

    The teacher itself where no stage has its logits, where a row is not the same each time, and
    where the logits are not fit for use and several workers would have to wait for one of them.
    """
    if logits is None or not asked.task.rows_stay:
        return LiveTeacher(asked.load().to(asked.device), asked.task)
    folder = Store(how.store).folder(logits)
    wanted = asked.identity()

    def fits(place: Path) -> bool:
        return identity_in(place / FILE) == wanted

    def make_again(part: Path) -> None:
        note(f"the teacher's logits of stage {logits} are missing or stale: computing them")
        asked.answer(part)

    if asked.group.size == 1:
        return load_logits(made_once(folder, FOLDER, fits, make_again) / FILE, asked.device)
    place = found(folder, FOLDER, fits)
    all_have_it = asked.group.sum(torch.tensor(float(place is not None))) == asked.group.size
    if place is not None and all_have_it:
        return load_logits(place / FILE, asked.device)
    note(f"the teacher's logits of stage {logits} are missing or stale: computing at each step")
    return LiveTeacher(asked.load().to(asked.device), asked.task)
