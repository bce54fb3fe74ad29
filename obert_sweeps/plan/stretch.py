"""The same training in fewer or more epochs."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from ..schema import Training

AnyTraining = TypeVar("AnyTraining", bound=Training)


def shorten(training: Training, max_epochs: float) -> Training:
    """The same training in at most `max_epochs` epochs: everything in proportion (`stretch`)."""
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
