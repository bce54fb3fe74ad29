"""A stage that asks a teacher once, for every student of its task: its logits of each training row.

    <stage>/logits/logits.safetensors   (see train.teacher), with the identity of what it holds

A student looks at that identity itself: what is missing, damaged or of another teacher, other rows
or another precision is made again before it is used, by one of those who need it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..model.base import Encoder
from ..schema import Runtime, Stage
from ..store import Store
from ..train.cost import read_clocks, spent_since
from ..train.data import Data
from ..train.evaluate import row_logits
from ..train.forward import Setup
from ..train.machine import prepare_torch
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
from .base import Result, StageWriter, finished
from .files import parent_models
from .leaves import encoder_of, task_of
from .once import found, made_once
from .tokenised import training_rows

FOLDER = "logits"
FILE = "logits.safetensors"


@dataclass
class TeacherQuery:
    """A teacher, and the rows whose logits are wanted of it."""

    stage: str  # the teacher's
    folder: Path  # its model
    encoder: Encoder
    data: Data
    setup: Setup
    vocabulary: int | None = None  # the student's, where there is one

    def identity(self) -> str:
        whole = {
            "teacher": self.stage,
            "rows": rows_digest(self.data.train.rows),
            "precision": self.setup.precision,
        }
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

    def model(self) -> nn.Module:
        tokens = len(self.data.tokenizer)
        task, device = self.data.task, self.setup.device
        return load_teacher(task, self.encoder, tokens, self.folder, self.vocabulary).to(device)

    def answer(self, part: Path | None) -> None:
        """Ask, together with the other workers, and write what is said into the folder `part`."""
        head, data = self.data.task.head, self.data
        said = row_logits(
            self.model(), data, data.train, self.setup, read=lambda outputs, _: head.logits(outputs)
        )
        if part is not None:
            save_logits(part / FILE, said, head.per_token, self.identity())


def teacher_logits_stage(
    spec: Stage, how: Runtime, group: WorkerGroup, writer: StageWriter | None
) -> Result | None:
    """Write logits/: what the teacher says of each training row."""
    begun, asking = read_clocks(), spec.recipe["logits"]
    setup = Setup(prepare_torch(how), asking["precision"], group)
    task, encoder = task_of(spec, how), encoder_of(spec, how)
    folder = parent_models(spec, how)["teacher"]
    tokenizer = encoder.tokenizer(str(folder))
    rows = training_rows(spec, how, task, tokenizer, asking["max_train_rows"])
    data = Data(task, tokenizer, rows)
    query = TeacherQuery(spec.parents["teacher"], folder, encoder, data, setup)
    if writer is None:
        query.answer(None)
        return None
    with writer.folder.new_folder(FOLDER) as part:
        query.answer(part)
    found = {"metrics": {}, "final_metrics": {}, "rows": len(data.train)}
    return finished(spec, how, setup.device, spent_since(begun), found, group.size)


def teacher_of(query: TeacherQuery, logits: str | None, how: Runtime) -> Teacher:
    """What a student learns from: the logits of the stage `logits`, or the teacher itself.

    The teacher itself where no stage has its logits, where a row is not the same each time, and
    where the logits are not fit for use and several workers would have to wait for one of them.
    """
    setup, task = query.setup, query.data.task
    if logits is None or not task.rows_stay:
        return LiveTeacher(query.model(), task.head)
    folder = Store(how.store).folder(logits)
    wanted = query.identity()

    def fits(place: Path) -> bool:
        return identity_in(place / FILE) == wanted

    def make_again(part: Path) -> None:
        setup.note(f"the teacher's logits of stage {logits} are missing or stale: computing them")
        query.answer(part)

    if setup.group.size == 1:
        return load_logits(made_once(folder, FOLDER, fits, make_again) / FILE, setup.device)
    place = found(folder, FOLDER, fits)
    all_have_it = setup.group.sum(torch.tensor(float(place is not None))) == setup.group.size
    if place is not None and all_have_it:
        return load_logits(place / FILE, setup.device)
    setup.note(
        f"the teacher's logits of stage {logits} are missing or stale: computing at each step"
    )
    return LiveTeacher(query.model(), task.head)
