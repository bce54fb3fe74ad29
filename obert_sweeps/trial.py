"""One stage, from its recipe to its result on disk."""

from __future__ import annotations

import math
import os
import platform
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .make import PACKAGE, make
from .method.base import Method
from .model.base import Encoder
from .schema import Interrupted, RequestError, Runtime, Stage, StageError, WorkerLost
from .sparsity.pattern import pattern_named
from .stage_files import checkpoint, parent_models
from .store import Held, StageFolder, Store
from .task.base import Task
from .tracker.base import Tracker
from .train.batches import Data, seed_of
from .train.journal import Journal, cost, rates, read_clocks
from .train.loop import Run, timetable, train
from .train.machine import environment, prepare_torch
from .train.optim import freeze, make_optimizer
from .train.outcome import not_begun, outcome
from .train.start import save, start, training_of
from .train.state import State, seed_everything
from .train.step import Step
from .worker_group import ALONE, WorkerGroup

_TRAINING = 1  # keeps training's random numbers apart from those that drew the model


def run_stage(
    stage: dict[str, Any], runtime: dict[str, Any], group: WorkerGroup = ALONE
) -> dict[str, Any]:
    """Run a stage, or find that it is done: {"id", "status", "reason"}.

    status is done, not_converged, failed (the reason is in failure.json too) or held (another
    living process works on it). A stage that was interrupted goes on from its last checkpoint.
    Raises only when interrupted, and WorkerLost.

    Every worker of `group` calls it. Rank 0 holds the stage, writes, and says what has become of
    it; the others train along, write nothing, and raise what goes wrong with them.
    """
    spec, how = Stage.from_dict(stage), Runtime(**runtime)
    if group.rank:
        if _inherited(spec, how) is None:
            train(*_prepare(spec, how, group, None))
        return {"id": spec.id, "status": "done", "reason": None}
    folder = Store(how.output or how.store).folder(spec.id)
    try:
        if (result := _finished(folder, how)) is not None:
            return _outcome(result)
        with folder.lease(f"{platform.node()} process {os.getpid()}"):
            if (result := _finished(folder, how)) is not None:
                return _outcome(result)
            return _attempt(spec, how, folder, group)
    except Held as held:
        return {"id": spec.id, "status": "held", "reason": str(held)}


def _finished(folder: StageFolder, how: Runtime) -> dict[str, Any] | None:
    return None if how.again else folder.read_json("result.json")


def _outcome(result: dict[str, Any]) -> dict[str, Any]:
    reason = (result.get("evidence") or {}).get("reason")
    return {"id": result["id"], "status": result["status"], "reason": reason}


def _attempt(spec: Stage, how: Runtime, folder: StageFolder, group: WorkerGroup) -> dict[str, Any]:
    tracker = Tracker()
    try:
        if how.again:
            folder.remove("result.json")
            folder.drop_checkpoints()
        folder.remove("failure.json")
        folder.write_json("stage.json", spec.as_dict())
        if how.tracker:
            tracker = make(how.tracker, how.allow_targets, Tracker)
        tracker.start(spec, how.output or how.store)
        if spec.recipe.get("kind") != "train":
            raise StageError(f"a stage of kind {spec.recipe.get('kind')!r} cannot be run here yet")
        result = _train(spec, how, group, Desk(folder, tracker))
        folder.write_json("result.json", result)
        folder.drop_checkpoints()
        tracker.finish(result)
        return _outcome(result)
    except Held:
        tracker.finish({"status": "interrupted", "reason": "taken over by another process"})
        raise
    except (Interrupted, WorkerLost, KeyboardInterrupt, SystemExit) as stop:
        folder.log(f"interrupted: {stop!r}")
        tracker.finish({"status": "interrupted", "reason": repr(stop)})
        raise
    except Exception as error:
        reason = _one_line(error)
        folder.log(traceback.format_exc())
        failure = {"reason": reason, "where": _where(error), "time": time.time()}
        folder.write_json("failure.json", failure)
        tracker.finish({"status": "failed", "reason": reason})
        return {"id": spec.id, "status": "failed", "reason": reason}


@dataclass(frozen=True)
class Desk:
    """Where rank 0 writes."""

    folder: StageFolder
    tracker: Tracker

    def write(self, record: dict[str, Any]) -> None:
        self.folder.append(record)
        self.tracker.log(record)


def _train(spec: Stage, how: Runtime, group: WorkerGroup, desk: Desk) -> dict[str, Any]:
    if (inherited := _inherited(spec, how)) is not None:
        return inherited
    run, state = _prepare(spec, how, group, desk)
    evidence = train(run, state)
    task, masks = run.step.task, state.masks
    result = outcome(spec.id, task, state, evidence, run.layers)
    if evidence is None or state.best is not None:
        if masks.is_dense and (reason := task.check(result["metrics"])) is not None:
            raise StageError(reason)
        with desk.folder.new_folder("model") as part:
            save(part, state.model, run.data.tokenizer, masks)
    run.journal.settle()
    return {
        **result,
        "rates": rates(state.spent),
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
    begin = start(task, encoder, training, parent_models(spec, how))
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
        training.batch_size,
        spec.seed,
        training.max_train_rows,
        training.max_eval_rows,
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
    )

    def save_checkpoint(state: State) -> None:
        if desk is not None:
            journal.settle()
            with desk.folder.new_checkpoint(state.step) as part:
                state.save(part, spec.id)

    step = Step(
        model,
        task,
        optimizer,
        method,
        device=device,
        teacher=begin.teacher.to(device) if begin.teacher is not None else None,
        distill=training.distill,
        max_grad_norm=training.max_grad_norm,
        micro_batch=how.micro_batch,
        precision=training.precision,
        group=group,
    )
    run = Run(
        training,
        times,
        pattern,
        begin.layers,
        data,
        step,
        journal,
        spec.seed,
        device,
        save_checkpoint,
        how.checkpoint_seconds,
        desk.folder.log if desk else _nothing,
        group,
        memory=None if how.memory_gb is None else int(how.memory_gb * 2**30),
        scratch=None if how.scratch is None else Path(how.scratch),
        rewind=begin.rewind,
    )
    return run, state


def _nothing(_: Any) -> None:
    """What a worker without a desk writes."""


def _inherited(spec: Stage, how: Runtime) -> dict[str, Any] | None:
    """The result of a stage whose weights or masks would come from one that did not converge.

    It did not converge either: a chain's divergence is its cell's result. A teacher that did not is
    another matter, and a failure.
    """
    store = Store(how.store)
    for role in ("start", "masks"):
        parent = spec.parents.get(role, "")
        result = store.result(parent) if parent else None
        diverged = result is not None and result["status"] == "not_converged"
        if result and diverged and not (store.folder(parent).path / "model").is_dir():
            return not_begun(spec.id, role, result)
    return None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    known = isinstance(error, StageError | RequestError)
    return text if known and text else f"{type(error).__name__}: {text}".rstrip(": ")


def _where(error: Exception) -> str:
    """The innermost place in this package that the error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"/{PACKAGE}/" in frame.filename] or frames
    name = ours[-1].filename.rpartition(f"/{PACKAGE}/")[2]
    return f"{PACKAGE}/{name}:{ours[-1].lineno} in {ours[-1].name}"
