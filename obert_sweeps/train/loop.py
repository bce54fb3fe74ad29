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
from .batches import Batches
from .data import Data
from .evaluate import evaluate
from .forward import Setup
from .gradients import GradientSource
from .journal import Diverged, Journal
from .optim import set_learning_rate
from .parallel import check_equal
from .seeds import seed_of
from .state import State
from .step import Step
from .timetable import Timetable

_DROPOUT, _PRUNING = 3, 5  # keep these random numbers apart from others of the same seed


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
    setup: Setup
    seed: int
    checkpoint: Callable[[State], None]
    checkpoint_seconds: float = 60.0
    memory: int | None = None  # bytes a pruning step may use; None: what is free
    scratch: Path | None = None
    rewind: dict[str, Tensor] | None = None  # what the encoder goes back to once it is pruned


def train(run: Run, state: State) -> dict[str, Any] | None:
    """Bring `state` from where it is to the end of the stage.

    Returns None, or the evidence if training diverged; weights are then those of the best
    evaluation if `keep` asks for it and there was one, else as they were left.
    """
    times, training, rank, evidence = run.times, run.training, run.setup.group.rank, None
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
                if rank:  # dropout of its own, which a checkpoint need not hold
                    torch.manual_seed(seed_of(run.seed, _DROPOUT, rank, step))
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
        run.setup.note(f"not converged: {evidence['reason']}, at epoch {evidence['epoch']:g}")
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
    seed = seed_of(run.seed, _PRUNING, step)
    gradients = GradientSource(
        state.model,
        run.layers,
        run.data,
        run.setup,
        seed=seed,
        micro_batch=run.step.micro_batch,
    )
    state.method.prune(
        PruneStep(
            run.layers,
            state.masks,
            run.pattern,
            level,
            final=step == run.times.last_pruning,
            gradients=gradients,
            seed=seed,
            target=run.times.target,
            note=run.setup.note,
            group=run.setup.group,
            memory=run.memory,
            scratch=run.scratch,
            held=gradients.held,
        )
    )
    if run.rewind is not None:
        state.rewind(run.rewind)
    state.masks.apply()
    state.model.train()
    state.pruned_at = step
    seconds = time.monotonic() - begun
    if step in run.times.noted:
        zero = Masks.from_zeros(run.layers).sparsity()  # what is zero now may grow again
        run.setup.note(
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
    training = run.training
    check_weights(run, state)
    check_equal(state.model, run.setup.group)
    state.metrics = evaluate(state.model, run.data, run.setup)
    epoch = run.times.epoch(state.step)
    run.journal.evaluated(state.step, epoch, state.metrics)
    if training.keep != "best" or state.pruned_at < run.times.last_pruning:
        return
    score = state.metrics[run.data.task.best_metric]
    if math.isfinite(score) and (state.best is None or score > state.best.score):
        state.keep_best(score, epoch)
    waited = epoch - (state.best.epoch if state.best else 0.0)
    if training.patience is not None and state.best and waited >= training.patience - 1e-6:
        run.setup.note(f"epoch {epoch:g}: stopped, no better one for {waited:g} epochs")
        state.stopped = True
