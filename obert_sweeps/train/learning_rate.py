"""The learning rate of an optimiser step, from the pieces of a recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..schema import LearningRatePiece, RequestError
from ..sparsity.schedule import step_of


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
