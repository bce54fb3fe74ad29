"""No pruning."""

from __future__ import annotations

from ..schema import StageError
from .base import Asked, Method, PruneStep


class Dense(Method):
    """Prunes nothing: dense training, and training with fixed masks.

    Source: none needed. No hyper-parameters. It refuses a pruning step above sparsity 0, so that a
    schedule that prunes is not silently left out.
    """

    def __init__(self) -> None:
        super().__init__()

    def check(self, asked: Asked) -> None:
        _refuse(asked.target)

    def prune(self, step: PruneStep) -> None:
        """StageError for any sparsity above 0."""
        _refuse(step.level)


def _refuse(level: float) -> None:
    if level > 0:
        raise StageError(
            f"method dense prunes nothing, but the schedule asks for a sparsity of {level:g}."
            " Choose another method, or a schedule without pruning."
        )
