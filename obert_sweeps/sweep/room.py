"""Which stages to hand out when they ask for different things. Pure bookkeeping, like the frontier.

Ray places whatever first fits. So a stage that asks for much would wait for ever behind many that
ask for little, and many that wait for one thing would keep back a stage that needs another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..schema import Stage
from .demand import bundle

Shape = frozenset[tuple[str, float]]


class Room:
    """What the nodes have together, and who of those handed out has it, or waits for it.

    A stage is handed out if it fits in what nobody has or waits for. Beyond that at most
    `most_waiting` of one shape wait, so that no room stays empty when a stage ends; and not where a
    more urgent stage of another shape waits for some of the same. `rank`: less is more urgent.
    Which node has the room is Ray's affair.
    """

    def __init__(
        self,
        nodes: Sequence[Mapping[str, float]],
        most_waiting: int,
        rank: Callable[[str], Any],
    ) -> None:
        self._free: dict[str, float] = {}
        for node in nodes:
            for name, amount in node.items():
                self._free[name] = self._free.get(name, 0.0) + amount
        self._most_waiting = most_waiting
        self._rank = rank
        self._taken: dict[str, Shape] = {}
        self._waiting: dict[str, Shape] = {}

    def gate(self) -> Callable[[Stage], bool]:
        """Whether a stage may be handed out now; to be asked of stages in the order of urgency."""
        refused: set[Shape] = set()

        def admits(stage: Stage) -> bool:
            shape = shape_of(stage)
            if shape in refused:  # a more urgent one like it was
                return False
            admitted = self._fits(shape) or self._may_wait(stage.id, shape)
            if not admitted:
                refused.add(shape)
            return admitted

        return admits

    def take(self, stage: Stage) -> None:
        """The stage is handed out."""
        shape = shape_of(stage)
        if not self._fits(shape):
            self._waiting[stage.id] = shape
        self._taken[stage.id] = shape
        for name, amount in shape:
            self._free[name] = self._free.get(name, 0.0) - amount

    def placed(self, name: str) -> None:
        """The stage has found its room."""
        self._waiting.pop(name, None)

    def give_back(self, name: str) -> None:
        """The stage has ended, or is not ours to run."""
        self._waiting.pop(name, None)
        for resource, amount in self._taken.pop(name):
            self._free[resource] += amount

    def _fits(self, shape: Shape) -> bool:
        return all(amount <= self._free.get(name, 0.0) + 1e-9 for name, amount in shape)

    def _may_wait(self, name: str, shape: Shape) -> bool:
        if sum(other == shape for other in self._waiting.values()) >= self._most_waiting:
            return False
        asked = {resource for resource, _ in shape}
        return all(
            other == shape
            or asked.isdisjoint(resource for resource, _ in other)
            or self._rank(name) < self._rank(waiting)
            for waiting, other in self._waiting.items()
        )


def shape_of(stage: Stage) -> Shape:
    """What all workers of a stage ask for together."""
    return frozenset((n, a * stage.workers) for n, a in bundle(stage.resources).items())
