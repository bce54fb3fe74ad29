"""A training run of the toy task without a store, for tests of the loop and its state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from tiny_bert import Toy, data_of, encoder, model_of

from obert_sweeps.method.base import Method, PruneStep
from obert_sweeps.method.magnitude import Magnitude
from obert_sweeps.schema import LearningRatePiece, Training
from obert_sweeps.sparsity.mask import Masks
from obert_sweeps.sparsity.pattern import pattern_named
from obert_sweeps.train.batches import Batches
from obert_sweeps.train.forward import Setup
from obert_sweeps.train.journal import Journal
from obert_sweeps.train.loop import Run
from obert_sweeps.train.optim import make_optimizer
from obert_sweeps.train.seeds import seed_everything
from obert_sweeps.train.state import State
from obert_sweeps.train.step import Step
from obert_sweeps.train.timetable import timetable

CPU = torch.device("cpu")
TRAINING = Training(epochs=3, batch_size=8, learning_rate=[LearningRatePiece(3, 0.01, 0.001)])


class Diary(Magnitude):
    """Writes down what the loop asks of a method."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def prune(self, step: PruneStep) -> None:
        self.events.append(("prune", round(step.level, 4), step.final))
        super().prune(step)

    def after_step(self) -> None:
        self.events.append("step")


def a_run(
    training: Training = TRAINING,
    level: float = 0.0,
    rows: int = 24,
    method: Method | None = None,
    dropout: float = 0.0,
    log_seconds: float = 1e9,
) -> tuple[Run, State, list[dict[str, Any]]]:
    task, method = Toy(rows=rows), method or Diary()
    model = model_of(task, dropout=dropout)
    layers = encoder().prunable(model)
    masks = Masks(layers)
    optimizer = make_optimizer(training, model, method.attach(layers, masks))
    state = State(model, masks, method, optimizer)
    pattern = pattern_named("unstructured" if level else "dense")
    data = data_of(task)
    times = timetable(training, pattern.name, level, lambda: rows)
    records: list[dict[str, Any]] = []
    journal = Journal(records.append, log_seconds, times, state.spent)
    setup = Setup(CPU)
    step = Step(state, replace(training, max_grad_norm=1.0), task.head, setup)
    seed_everything(1)
    run = Run(
        training,
        times,
        pattern,
        layers,
        data,
        Batches(data, training.batch_size, 0),
        step,
        journal,
        setup,
        1,
        lambda s: None,
        1e9,
    )
    return run, state, records
