"""Epochs as optimiser steps: when a stage prunes, evaluates and writes records."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from ..schema import Training
from ..sparsity.schedule import pruning_steps, step_of


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

    @property
    def last_pruning(self) -> int:
        """The step of it, -1 where nothing is pruned."""
        return max(self.prunings, default=-1)

    @property
    def target(self) -> float:
        """The sparsity that the last pruning leads to."""
        return self.prunings.get(self.last_pruning, 0.0)

    @cached_property
    def noted(self) -> set[int]:
        """Prunings that the log names: of those every few steps a hundred tell enough."""
        found = {self.last_pruning} & set(self.prunings)
        latest = -math.inf
        for step in self.prunings:
            if step - latest >= self.steps / 100:
                found.add(step)
                latest = step
        return found

    @cached_property
    def records(self) -> set[int]:
        """After so many steps the loss is read and written, whatever the clock says.

        A loss that is not finite must be seen before it is evaluated or pruned by.
        """
        ends = range(self.steps_per_epoch, self.steps + 1, self.steps_per_epoch)
        return {*ends, *self.noted, *self.evaluations}


def timetable(training: Training, pattern: str, level: float, rows: Callable[[], int]) -> Timetable:
    """The timetable of a stage. `rows` counts the training rows; not asked where none are used."""
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
