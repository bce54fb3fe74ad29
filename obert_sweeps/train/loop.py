"""The training stage: one page, whatever the method, the schedule and the task."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..method.base import PruneStep
from ..model.quantize import observe
from ..schema import Training
from ..sparsity.mask import Masks
from ..sparsity.pattern import Pattern
from ..sparsity.schedule import pruning_steps, step_of
from ..worker_group import ALONE, WorkerGroup
from .batches import Batches
from .data import Data
from .evaluate import evaluate
from .gradients import GradientSource
from .journal import Diverged, Journal
from .optim import set_learning_rate
from .parallel import check_equal
from .seeds import seed_of
from .state import State
from .step import Step

_DROPOUT = 3  # keeps these random numbers apart from others of the same seed


@dataclass
class Timetable:
    """At which optimiser steps what happens."""

    steps: int
    steps_per_epoch: int
    prunings: dict[int, float]  # before the step -> sparsity it leads to
    evaluations: set[int]  # after so many steps
    observed: int = 0  # for so many steps the ranges of a quantised model follow the data

    def epoch(self, step: int) -> float:
        return round(step / self.steps_per_epoch, 4)

    def __post_init__(self) -> None:
        self.last_pruning = max(self.prunings, default=-1)
        self.target = self.prunings.get(self.last_pruning, 0.0)
        # Methods whose masks move prune every few steps; a hundred of them tell enough.
        self.told: set[int] = {self.last_pruning} & set(self.prunings)
        latest = -math.inf
        for step in self.prunings:
            if step - latest >= self.steps / 100:
                self.told.add(step)
                latest = step
        # A loss that is not finite must be seen before it is evaluated or pruned by.
        ends = range(self.steps_per_epoch, self.steps + 1, self.steps_per_epoch)
        self.records = {*ends, *self.told, *self.evaluations}


def timetable(training: Training, pattern: str, level: float, rows: Callable[[], int]) -> Timetable:
    """Epochs as optimiser steps. `rows` counts the training rows; not asked where none are used."""
    per_epoch = -(-rows() // training.batch_size) if training.epochs else 1
    steps = step_of(training.epochs, per_epoch)
    prunings: dict[int, float] = {}
    if training.pruning is not None and pattern != "dense":
        prunings = pruning_steps(training.pruning, level, per_epoch, steps)
    evaluations = {steps}
    every = training.evaluate_every
    if every > 0:
        times = range(1, math.ceil(training.epochs / every))
        evaluations |= {step_of(k * every, per_epoch) for k in times} - {0}
    until = training.quantize.observe_until if training.quantize else 0.0
    return Timetable(steps, per_epoch, prunings, evaluations, step_of(until, per_epoch))


@dataclass
class Run:
    """What a stage's training needs beside its state."""

    training: Training
    times: Timetable
    pattern: Pattern
    layers: dict[str, nn.Linear]
    data: Data
    batches: Batches
    step: Step
    journal: Journal
    seed: int
    device: torch.device
    checkpoint: Callable[[State], None]
    checkpoint_seconds: float = 60.0
    note: Callable[[str], None] = lambda text: None
    group: WorkerGroup = ALONE
    memory: int | None = None  # bytes a pruning step may use; None: what is free
    scratch: Path | None = None
    rewind: dict[str, Tensor] | None = None  # what the encoder goes back to once it is pruned


def train(run: Run, state: State) -> dict[str, Any] | None:
    """Bring `state` from where it is to the end of the stage.

    Returns None, or the evidence if training diverged; weights are then those of the best
    evaluation if `keep` asks for it and there was one, else as they were left.
    """
    times, training, evidence = run.times, run.training, None
    saved = time.monotonic()
    state.model.train()
    try:
        for step in range(state.step, max(times.steps, 1)):
            if state.stopped:
                break
            if step in times.prunings and step > state.pruned_at:
                prune(run, state, step)
            if times.steps:
                begun = time.monotonic()
                if training.quantize is not None:
                    observe(state.model, step < times.observed)
                rate = set_learning_rate(
                    state.optimizer, training.learning_rate, step, times.steps_per_epoch
                )
                if run.group.rank:  # dropout of its own, which a checkpoint need not hold
                    torch.manual_seed(seed_of(run.seed, _DROPOUT, run.group.rank, step))
                batch = run.batches(step)
                loss = run.step(batch)
                state.masks.apply()
                state.step = step + 1
                run.journal.step_taken(batch, loss, time.monotonic() - begun)
                if run.journal.due or state.step in times.records:
                    run.journal.record(state.step, rate, state.masks.sparsity())
            if state.step in times.evaluations:
                measure(run, state)
            if time.monotonic() - saved >= run.checkpoint_seconds and state.step < times.steps:
                run.checkpoint(state)
                saved = time.monotonic()
    except Diverged as divergence:
        evidence = divergence.evidence
        run.note(f"not converged: {evidence['reason']}, at epoch {evidence['epoch']:g}")
    if training.keep == "best":
        state.restore_best()
    if evidence is None or state.best is not None:
        state.masks.apply()
        state.masks.check()
    return evidence


def prune(run: Run, state: State, step: int) -> None:
    """One pruning step; what it did is checkpointed if it took long enough to be worth it."""
    check_weights(run, state)
    begun, level = time.monotonic(), run.times.prunings[step]
    gradients = GradientSource(
        state.model,
        run.layers,
        run.step.task,
        run.data,
        device=run.device,
        seed=run.seed + step,
        micro_batch=run.step.micro_batch,
        group=run.group,
    )
    state.method.prune(
        PruneStep(
            run.layers,
            state.masks,
            run.pattern,
            level,
            final=step == run.times.last_pruning,
            gradients=gradients,
            seed=run.seed + step,
            target=run.times.target,
            note=run.note,
            group=run.group,
            memory=run.memory,
            scratch=run.scratch,
        )
    )
    if run.rewind is not None:
        state.rewind(run.rewind)
    state.masks.apply()
    state.model.train()
    state.pruned_at = step
    seconds = time.monotonic() - begun
    if step in run.times.told:
        zero = Masks.from_zeros(run.layers).sparsity()  # what is zero now may grow again
        run.note(
            f"epoch {run.times.epoch(step):g}: sparsity {level:.2%} asked for, {zero:.2%} pruned,"
            f" {seconds:.1f} s"
        )
    if seconds >= run.checkpoint_seconds and run.times.steps:
        run.checkpoint(state)


def check_weights(run: Run, state: State) -> None:
    """Diverged unless all weights are finite."""
    if not bool(torch.stack([p.isfinite().all() for p in state.model.parameters()]).all()):
        epoch = run.times.epoch(state.step)
        raise Diverged(reason="weights are not finite", epoch=epoch, step=state.step)


def measure(run: Run, state: State) -> None:
    """Evaluate; remember the best if `keep` asks for it; stop when `patience` is used up.

    Only evaluations after the last pruning step count: those before are of denser models.
    """
    training, step = run.training, run.step
    check_weights(run, state)
    check_equal(state.model, run.group)
    state.metrics = evaluate(
        state.model, step.task, run.data, run.device, step.precision, run.group
    )
    epoch = run.times.epoch(state.step)
    run.journal.evaluated(state.step, epoch, state.metrics)
    if training.keep != "best" or state.pruned_at < run.times.last_pruning:
        return
    score = state.metrics[step.task.best_metric]
    if math.isfinite(score) and (state.best is None or score > state.best.score):
        state.keep_best(score, epoch)
    waited = epoch - (state.best.epoch if state.best else 0.0)
    if training.patience is not None and state.best and waited >= training.patience - 1e-6:
        run.note(f"epoch {epoch:g}: stopped, no better one for {waited:g} epochs")
        state.stopped = True
