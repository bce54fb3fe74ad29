"""A training stage: dense or pruned fine-tuning, upstream pruning, transfer, a lottery round, QAT.

What differs between them is data in the recipe.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..method.base import Method
from ..schema import Runtime, Stage, StageError, Training
from ..sparsity.pattern import pattern_named
from ..task.base import Features, Task
from ..train.batches import Batches
from ..train.cost import rates, read_clocks, work_of
from ..train.data import Data
from ..train.forward import Setup
from ..train.journal import Journal
from ..train.loop import Run, train
from ..train.machine import prepare_torch
from ..train.optim import freeze, make_optimizer
from ..train.outcome import outcome
from ..train.seeds import seed_everything, seed_of
from ..train.start import Start, save, start
from ..train.state import State
from ..train.step import Step
from ..train.timetable import timetable
from ..worker_group import WorkerGroup
from .base import Result, StageWriter, finished
from .files import checkpoint, parent_models
from .leaves import encoder_of, method_of, task_of
from .teacher_logits import TeacherQuery, teacher_of
from .tokenised import training_rows

_TRAINING = 1  # keeps training's random numbers apart from those that drew the model


def train_stage(
    spec: Stage, how: Runtime, group: WorkerGroup, writer: StageWriter | None
) -> Result | None:
    """Write model/, unless training diverged and there is no best epoch to keep.

    StageError where a dense model has learnt nothing that is worth building upon (`Task.check`).
    """
    run, state = _prepare(spec, how, group, writer)
    evidence = train(run, state)
    if writer is None:
        return None
    task, masks = run.data.task, state.masks
    found = outcome(task, state, evidence, run.layers)
    if evidence is None or state.best is not None:
        if masks.is_dense and (reason := task.check(found["metrics"])) is not None:
            raise StageError(reason)
        with writer.folder.new_folder("model") as part:
            save(part, state.model, run.data.tokenizer, masks)
    run.journal.settle()
    if run.step.micro_batch != how.micro_batch:
        found["micro_batch"] = run.step.micro_batch  # what memory holds
    found["rates"] = rates(state.spent, run.journal.work)
    return finished(spec, how, run.setup.device, state.spent, found, group.size)


def _prepare(
    spec: Stage, how: Runtime, group: WorkerGroup, writer: StageWriter | None
) -> tuple[Run, State]:
    """A stage as it is before its next step: from the beginning, or from its last checkpoint."""
    clocks, training = read_clocks(), Training.from_dict(spec.recipe["training"])
    note = writer.folder.log if writer else _nothing
    setup = Setup(prepare_torch(how), training.precision, group, note)
    task, encoder, method = task_of(spec, how), encoder_of(spec, how), method_of(spec, how)
    models = parent_models(spec, how)
    seed_everything(spec.seed)
    begin = start(task, encoder, training, models)
    state = _state(begin, training, method, setup.device)
    seed_everything(seed_of(spec.seed, _TRAINING))
    _restore(state, spec, how, group, writer)
    data = _data(spec, how, task, training, begin.tokenizer, note)
    teacher = None
    if "teacher" in models:
        words = begin.model.config.vocab_size
        stage, folder = spec.parents["teacher"], models["teacher"]
        query = TeacherQuery(stage, folder, encoder, data, setup, words)
        teacher = teacher_of(query, spec.parents.get("logits"), how)
    pattern = pattern_named(spec.recipe["sparsity"]["pattern"])
    level = spec.recipe["sparsity"]["level"]
    times = timetable(training, pattern.name, level, lambda: len(data.train))
    # Rank 0 alone looks at its clock: the others would stop at other steps by what they saw.
    write, every = (writer.write, how.log_seconds) if writer else (_nothing, math.inf)
    journal = Journal(write, every, times, state.spent, clocks, work_of(state.model, setup))
    run = Run(
        training=training,
        times=times,
        pattern=pattern,
        layers=begin.layers,
        data=data,
        batches=Batches(data, training.batch_size, spec.seed, training.group_by_length),
        step=Step(state, training, task.head, setup, teacher, how.micro_batch),
        journal=journal,
        setup=setup,
        seed=spec.seed,
        checkpoint=_checkpoints(spec, journal, writer),
        checkpoint_seconds=how.checkpoint_seconds,
        memory=None if how.memory_gb is None else int(how.memory_gb * 2**30),
        scratch=None if how.scratch is None else Path(how.scratch),
        rewind=begin.rewind,
    )
    return run, state


def _state(begin: Start, training: Training, method: Method, device: torch.device) -> State:
    model = begin.model.to(device)
    freeze(model, training.freeze)
    groups = method.attach(begin.layers, begin.masks)
    method.to(device)
    return State(model, begin.masks, method, make_optimizer(training, model, groups))


def _restore(
    state: State, spec: Stage, how: Runtime, group: WorkerGroup, writer: StageWriter | None
) -> None:
    """Go on from the last checkpoint, if there is one; records of later steps are dropped."""
    found = checkpoint(spec, how, group)
    if found is not None:
        state.load(found, spec.id)
    if writer is not None:
        if found is not None:
            writer.folder.log(f"going on from {found.name}")
        writer.folder.rewind(state.step if found else -1)


def _data(
    spec: Stage,
    how: Runtime,
    task: Task,
    training: Training,
    tokenizer: Any,
    note: Callable[[str], None],
) -> Data:
    read = training_rows(spec, how, task, tokenizer, training.max_train_rows)

    def rows() -> Features:
        features = read()
        if remark := task.remark(features.notes):
            note(f"{task.name}, train: {remark}")
        return features

    return Data(task, tokenizer, rows, training.max_eval_rows)


def _checkpoints(
    spec: Stage, journal: Journal, writer: StageWriter | None
) -> Callable[[State], None]:
    def save_checkpoint(state: State) -> None:
        if writer is not None:
            journal.settle()
            with writer.folder.new_checkpoint(state.step) as part:
                state.save(part, spec.id)

    return save_checkpoint


def _nothing(_: Any) -> None:
    """What a worker without a writer writes."""
