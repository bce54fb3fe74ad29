"""A training stage: dense or pruned fine-tuning, upstream pruning, transfer, a lottery round, QAT.

What differs between them is data in the recipe.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import nn

from ..make import make
from ..method.base import Method
from ..model.base import Encoder
from ..schema import Runtime, Stage, StageError
from ..sparsity.pattern import pattern_named
from ..task.base import Task
from ..train.batches import Batches
from ..train.cost import cost, rates, read_clocks, work_of
from ..train.data import Data
from ..train.journal import Journal
from ..train.loop import Run, timetable, train
from ..train.machine import environment, prepare_torch
from ..train.optim import freeze, make_optimizer
from ..train.outcome import outcome
from ..train.seeds import seed_everything, seed_of
from ..train.start import load_teacher, save, start, training_of
from ..train.state import State
from ..train.step import Step
from ..worker_group import WorkerGroup
from .base import Desk, Result, inherited
from .files import checkpoint, parent_models
from .teacher_logits import Asked, teacher_of
from .tokenised import training_rows

_TRAINING = 1  # keeps training's random numbers apart from those that drew the model


def train_stage(spec: Stage, how: Runtime, group: WorkerGroup, desk: Desk | None) -> Result | None:
    if (result := inherited(spec, how)) is not None:
        return result
    run, state = _prepare(spec, how, group, desk)
    evidence = train(run, state)
    if desk is None:
        return None
    task, masks = run.step.task, state.masks
    result = outcome(spec.id, task, state, evidence, run.layers)
    if evidence is None or state.best is not None:
        if masks.is_dense and (reason := task.check(result["metrics"])) is not None:
            raise StageError(reason)
        with desk.folder.new_folder("model") as part:
            save(part, state.model, run.data.tokenizer, masks)
    run.journal.settle()
    if run.step.micro_batch != how.micro_batch:
        result["micro_batch"] = run.step.micro_batch  # what memory holds
    return {
        **result,
        "rates": rates(state.spent, run.journal.work),
        "cost": cost(state.spent, run.device, group.size),
        "environment": environment(how, run.device, group.size),
    }


def _prepare(spec: Stage, how: Runtime, group: WorkerGroup, desk: Desk | None) -> tuple[Run, State]:
    """A stage as it is before its next step: from the beginning, or from its last checkpoint.

    Without a desk nothing is written.
    """
    clocks = read_clocks()
    recipe, allowed = spec.recipe, how.allow_targets
    training = training_of(recipe["training"])
    device = prepare_torch(how)
    task = make(recipe["task"], allowed, Task)  # type: ignore[type-abstract]
    encoder = make(recipe["model"], allowed, Encoder)  # type: ignore[type-abstract]
    method = make(recipe["method"], allowed, Method)
    pattern = pattern_named(recipe["sparsity"]["pattern"])
    level = recipe["sparsity"]["level"]

    seed_everything(spec.seed)
    models = parent_models(spec, how)
    begin = start(task, encoder, training, models)
    model = begin.model.to(device)
    freeze(model, training.freeze)
    groups = method.attach(begin.layers, begin.masks)
    method.to(device)
    optimizer = make_optimizer(training, model, groups)
    state = State(model, begin.masks, method, optimizer)
    seed_everything(seed_of(spec.seed, _TRAINING))

    found = checkpoint(spec, how, group)
    if found is not None:
        state.load(found, spec.id)
    if desk is not None:
        if found is not None:
            desk.folder.log(f"going on from {found.name}")
        desk.folder.rewind(state.step if found else -1)

    data = Data(
        task,
        begin.tokenizer,
        training.max_train_rows,
        training.max_eval_rows,
        training_rows(spec, how, task, begin.tokenizer, training.max_train_rows),
    )
    times = timetable(training, pattern.name, level, lambda: len(data.train))
    journal = Journal(
        desk.write if desk else _nothing,
        # Rank 0 alone looks at its clock: the others would stop at other steps by what they saw.
        how.log_seconds if desk else math.inf,
        times.steps,
        times.steps_per_epoch,
        state.spent,
        clocks,
        work_of(model, device, training.precision, group.size),
    )

    def save_checkpoint(state: State) -> None:
        if desk is not None:
            journal.settle()
            with desk.folder.new_checkpoint(state.step) as part:
                state.save(part, spec.id)

    note = desk.folder.log if desk else _nothing
    teacher = None
    if "teacher" in models:
        vocabulary = model.config.vocab_size

        def load() -> nn.Module:
            return load_teacher(task, encoder, len(begin.tokenizer), models["teacher"], vocabulary)

        asked = Asked(spec.parents["teacher"], load, task, data, training.precision, device, group)
        teacher = teacher_of(asked, spec.parents.get("logits"), how, note)

    step = Step(
        model,
        task,
        optimizer,
        method,
        device=device,
        teacher=teacher,
        distill=training.distill,
        max_grad_norm=training.max_grad_norm,
        micro_batch=how.micro_batch,
        precision=training.precision,
        group=group,
        note=note,
    )
    run = Run(
        training,
        times,
        pattern,
        begin.layers,
        data,
        Batches(data, training.batch_size, spec.seed, training.group_by_length),
        step,
        journal,
        spec.seed,
        device,
        save_checkpoint,
        how.checkpoint_seconds,
        note,
        group,
        memory=None if how.memory_gb is None else int(how.memory_gb * 2**30),
        scratch=None if how.scratch is None else Path(how.scratch),
        rewind=begin.rewind,
    )
    return run, state


def _nothing(_: Any) -> None:
    """What a worker without a desk writes."""
