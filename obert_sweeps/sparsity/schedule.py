"""When pruning steps fall and what the learning rate is. Pure arithmetic: no torch here.

Epochs become optimiser steps in one place, `step_of`, so that a learning-rate cycle restarts at
exactly the step before which a pruning step happens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from ..schema import LearningRatePiece, PruningTimes, RequestError, Training

AnyTraining = TypeVar("AnyTraining", bound=Training)

_TOLERANCE = 1e-6  # epochs are decimal fractions: 3 * 0.1 must count as 0.3


def cubic(level: float, initial: float, progress: float) -> float:
    """Sparsity at `progress` (0..1) between `initial` and `level`.

    s = initial + (level - initial) * (1 - (1 - p)^3): Zhu & Gupta 2017, "To prune, or not to
    prune", eq. 1.
    """
    return initial + (level - initial) * (1.0 - (1.0 - progress) ** 3)


def step_of(epoch: float, steps_per_epoch: int) -> int:
    """The 0-based optimiser step that starts at `epoch`: nearest, halves upwards.

    Halves go upwards, not to even: points that are one step apart must not fall together.
    """
    return math.floor(round(epoch * steps_per_epoch, 6) + 0.5)


def pruning_steps(
    times: PruningTimes, level: float, steps_per_epoch: int, total_steps: int
) -> dict[int, float]:
    """Optimiser step (0-based) before which a pruning step happens -> sparsity it leads to.

    Steps are increasing and distinct; the last one leads to exactly `level` and at least one
    optimiser step follows it. `total_steps` 0 means no training at all: one pruning step, {0:
    level}. With intervals in epochs the sparsity of a point follows from its epoch, not from the
    step it is rounded to, so a recipe has the same sequence on every data set; with intervals in
    optimiser steps there are as many points as the training has room for, on the same curve.

    Raises RequestError if `initial` is above `level` or the steps do not fit.
    """
    _check(times, level)
    if total_steps == 0:
        epochs = pruning_epochs(times)
        if len(epochs) > 1 or epochs[0] > 0 or times.every_steps or times.until is not None:
            raise RequestError(
                f"pruning up to epoch {epochs[-1]:g} in more than one step, or after a training"
                " step, does not fit into training of 0 epochs. For one-shot pruning set"
                " pruning.start and pruning.end to 0, and pruning.every, pruning.every_steps and"
                " pruning.until to null; otherwise raise training.epochs."
            )
        return {0: level}
    if times.every is None and times.every_steps is not None:
        steps = _ramp_by_steps(times, level, steps_per_epoch, times.every_steps)
    else:
        steps = _ramp_by_epochs(times, level, steps_per_epoch)
    if max(steps) >= total_steps:
        raise RequestError(
            f"the last pruning step falls on optimiser step {max(steps)} of {total_steps}, and at"
            " least one must follow it. Lower pruning.end, or raise training.epochs."
        )
    if times.until is not None:
        last = min(step_of(times.until, steps_per_epoch), total_steps - 1)
        every = times.every_steps or total_steps
        steps |= dict.fromkeys([*_multiples(every, max(steps), last), last], level)
    return steps


def pruning_epochs(times: PruningTimes) -> list[float]:
    """The epochs of pruning steps up to `end`: start, start + every, … and always `end` itself."""
    if times.every is None:
        return [times.start]
    whole = math.floor((times.end - times.start) / times.every + _TOLERANCE)
    epochs = [times.start + i * times.every for i in range(whole + 1)]
    if times.end - epochs[-1] > _TOLERANCE:  # the interval does not divide the span
        epochs.append(times.end)
    else:
        epochs[-1] = times.end
    return epochs


def _ramp_by_epochs(times: PruningTimes, level: float, steps_per_epoch: int) -> dict[int, float]:
    epochs = pruning_epochs(times)
    span = times.end - times.start
    steps: dict[int, float] = {}
    for i, epoch in enumerate(epochs):
        step = step_of(epoch, steps_per_epoch)
        if step in steps:
            raise RequestError(
                f"{len(epochs)} pruning steps between epochs {times.start:g} and {times.end:g} do"
                f" not fit: an epoch has only {steps_per_epoch} optimiser steps, so two of them"
                f" fall on step {step}. Raise pruning.every, or train longer or on more rows."
            )
        last = i == len(epochs) - 1
        steps[step] = level if last else cubic(level, times.initial, (epoch - times.start) / span)
    return steps


def _ramp_by_steps(
    times: PruningTimes, level: float, steps_per_epoch: int, every: int
) -> dict[int, float]:
    """Start, end, and every multiple of `every` between: where a method's own windows end."""
    first, last = step_of(times.start, steps_per_epoch), step_of(times.end, steps_per_epoch)
    between = [first, *_multiples(every, first, last)] if first < last else []
    steps = {s: cubic(level, times.initial, (s - first) / (last - first)) for s in between}
    return steps | {last: level}


def _multiples(every: int, after: int, before: int) -> range:
    """The multiples of `every` in after < s < before."""
    return range((after // every + 1) * every, before, every)


def _check(times: PruningTimes, level: float) -> None:
    """RequestError unless the times follow each other and the sparsities grow."""
    if not 0.0 <= times.initial < 1.0 or not 0.0 <= level <= 1.0:
        raise RequestError(
            f"sparsities must be between 0 and 1: pruning.initial is {times.initial:g}, the target"
            f" {level:g}."
        )
    if times.start < 0 or times.end < times.start:
        raise RequestError(
            f"pruning from epoch {times.start:g} to {times.end:g}: the start must be at least 0 and"
            " not after the end. Set pruning.start <= pruning.end."
        )
    if times.every is not None and times.every <= 0:
        raise RequestError(
            f"pruning.every is {times.every:g} epochs, not an interval. Give a positive number"
            " of epochs, or null."
        )
    if times.every_steps is not None and times.every_steps < 1:
        raise RequestError(
            f"pruning.every_steps is {times.every_steps} optimiser steps, not an interval."
            " Give at least 1, or null."
        )
    if times.until is not None and times.until < times.end:
        raise RequestError(
            f"pruning.until, epoch {times.until:g}, is before pruning.end, {times.end:g}: it says"
            " how long masks still move after that. Raise it, or set it to null."
        )
    if times.every is not None and times.every_steps is not None and times.until is None:
        raise RequestError(
            f"pruning.every ({times.every:g} epochs) and pruning.every_steps"
            f" ({times.every_steps}) are both set, and only one can be the interval up to"
            " pruning.end. Set one to null, or say in pruning.until how long steps go on after it."
        )
    several = times.every is not None or times.every_steps is not None
    if several and times.end > times.start and times.initial > level:
        raise RequestError(
            f"pruning.initial {times.initial:g} is above the target {level:g}, and sparsity only"
            f" grows. Set pruning.initial to at most {level:g}."
        )


def learning_rate(pieces: Sequence[LearningRatePiece], step: int, steps_per_epoch: int) -> float:
    """The learning rate of optimiser step `step` (0-based).

    In each piece, or each cycle of it, the first step has `initial` and the last step has `final`
    (the line is divided by the number of steps less one, as sparseml's
    LearningRateFunctionModifier does); a single-step cycle has `initial`. A cycle that the piece's
    end cuts short keeps its slope and stops where it is cut. After the last piece its last value
    stays.
    """
    begin = 0.0
    for piece in pieces:
        if step < step_of(piece.until, steps_per_epoch):
            return _on_piece(piece, begin, step, steps_per_epoch)
        begin = piece.until
    begin = pieces[-2].until if len(pieces) > 1 else 0.0
    final_step = max(step_of(pieces[-1].until, steps_per_epoch) - 1, 0)
    return _on_piece(pieces[-1], begin, final_step, steps_per_epoch)


def check_pieces(pieces: Sequence[LearningRatePiece]) -> None:
    """RequestError unless each piece ends after it begins, at rates that can be."""
    begin = 0.0
    for piece in pieces:
        if not begin < piece.until < math.inf or (piece.every is not None and not piece.every > 0):
            raise RequestError(
                f"a learning-rate piece runs from epoch {begin:g} until {piece.until:g}"
                f" (every {piece.every}): each must end after it begins, and `every` be positive."
            )
        if not (0 <= piece.initial < math.inf and 0 <= piece.final < math.inf):
            raise RequestError(
                f"a learning-rate piece goes from {piece.initial:g} to {piece.final:g}: rates are"
                " at least 0."
            )
        begin = piece.until


def _on_piece(piece: LearningRatePiece, begin: float, step: int, steps_per_epoch: int) -> float:
    first = step_of(begin, steps_per_epoch)
    end = step_of(piece.until, steps_per_epoch)
    if piece.every is not None:
        # Boundaries are rounded one by one, not from a rounded cycle length: otherwise cycles
        # drift away from the pruning steps when an epoch's steps do not divide evenly.
        cycle = max(math.floor((step / steps_per_epoch - begin) / piece.every) - 1, 0)
        while step_of(begin + (cycle + 1) * piece.every, steps_per_epoch) <= step:
            cycle += 1
        first = step_of(begin + cycle * piece.every, steps_per_epoch)
        end = step_of(begin + (cycle + 1) * piece.every, steps_per_epoch)
    length = end - first
    if length <= 1:
        return piece.initial
    return piece.initial + (piece.final - piece.initial) * (step - first) / (length - 1)


def shorten(training: Training, max_epochs: float) -> Training:
    """The same training in at most `max_epochs` epochs: everything in proportion (`stretch`)."""
    if max_epochs <= 0:
        raise RequestError(f"max_epochs is {max_epochs:g}; it must be above 0.")
    if training.epochs <= max_epochs:
        return training
    return stretch(training, max_epochs / training.epochs)


def stretch(training: AnyTraining, factor: float) -> AnyTraining:
    """The same training in `factor` times its epochs.

    Epochs, pruning times, learning-rate pieces and when INT8 ranges are fixed are scaled alike, so
    that warm-ups, the climb to the target and what follows it keep their shares, and so do the
    number of pruning steps and their sparsities. `every_steps` and `evaluate_every` stay as they
    are: the former is a method's own rhythm, and there are more or fewer such steps on the same
    curve.
    """

    def scaled(epochs: float | None) -> float | None:
        return None if epochs is None else epochs * factor

    pruning = training.pruning
    if pruning is not None:
        pruning = replace(
            pruning,
            start=pruning.start * factor,
            end=pruning.end * factor,
            every=scaled(pruning.every),
            until=scaled(pruning.until),
        )
    pieces = [
        replace(piece, until=piece.until * factor, every=scaled(piece.every))
        for piece in training.learning_rate
    ]
    quantize = training.quantize
    if quantize is not None:
        quantize = replace(quantize, observe_until=quantize.observe_until * factor)
    return replace(
        training,
        epochs=training.epochs * factor,
        learning_rate=pieces,
        pruning=pruning,
        quantize=quantize,
    )
