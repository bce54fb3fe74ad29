"""How an OBS step fits its memory: weights in segments, segments in rounds.

The inverse Fisher takes 8 B (B + 1) / 2 bytes a block, 50 times the weights at B = 50. Where that
is more than there is, its blocks, which know nothing of each other, are taken in rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise

from torch import Tensor

from ...schema import StageError
from ...sparsity.pattern import Pattern, Scope
from ..base import AT_ONCE

_WORKSPACE = {"cpu": 16 << 20, "cuda": 1 << 30}  # what arithmetic on a few blocks at a time takes
_CHOICE = 20  # bytes a candidate set while the lowest are found: a copy, its ranking, flags


@dataclass(frozen=True)
class Segment:
    """A run of Fisher blocks of one layer: weights `begin` to `end` of its flattened weight.

    `begin` is a multiple of B; `end` is one too, or the end of the layer.
    """

    layer: str
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin

    def of(self, values: Tensor) -> Tensor:
        """The segment's part of what a layer has for each weight: (..., out, in) -> (..., n).

        A view, where `values` are contiguous.
        """
        return values.flatten(start_dim=-2)[..., self.begin : self.end]

    def shares(self, count: int, block_size: int) -> list[Segment]:
        """`count` segments in a row of as many blocks each as can be; some may be empty."""
        blocks = -(-len(self) // block_size)
        edges = [
            min(self.begin + blocks * i // count * block_size, self.end) for i in range(count + 1)
        ]
        return [Segment(self.layer, begin, end) for begin, end in pairwise(edges)]


Round = list[Segment]
"""Segments whose inverses are in memory together: at most one of each layer."""


@dataclass(frozen=True)
class MemoryPlan:
    """What is in memory when."""

    together: list[list[Round]]
    """All rounds. Those of an inner list are decided on together, from the costs of all."""
    largest: int  # bytes of the largest round's inverse, at one worker
    total: int  # bytes of all inverses, at one worker
    budget: int  # bytes one worker may use

    def waiting(self, rounds: list[Round]) -> int:
        """Bytes of inverses that wait for the decision on `rounds`, at one worker, at most."""
        return self.largest * (len(rounds) - 1)

    def draws(self, scratch: bool) -> int:
        """How often the gradients are drawn, if what waits is kept on `scratch` or not."""
        passes = [len(rounds) if scratch else 2 * len(rounds) - 1 for rounds in self.together]
        return sum(passes)

    def describe(self, scratch: bool) -> str:
        """One line for the stage's log."""
        count = sum(len(rounds) for rounds in self.together)
        shape = "in one round" if count == 1 else f"in {count} rounds"
        kept = scratch and any(len(rounds) > 1 for rounds in self.together)
        return (
            f"inverse Fisher: {self.total / 2**30:.2f} GiB a worker {shape} of at most"
            f" {self.largest / 2**30:.2f} GiB, {self.budget / 2**30:.2f} GiB to use; gradients"
            f" drawn {_times(self.draws(scratch))}{', inverses kept on scratch' if kept else ''}"
        )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def plan_rounds(
    sizes: Mapping[str, int],
    block_size: int,
    pattern: Pattern,
    scope: Scope,
    budget: int,
    *,
    held: int = 0,
    workers: int = 1,
    device: str = "cpu",
) -> MemoryPlan:
    """Divide layers of `sizes` weights, by name and in order, into rounds that fit `budget` bytes.

    `held`: bytes of these that the source of gradients has for itself. A layer is cut only where
    it does not fit alone. StageError if not even one block fits.
    """
    per_block = 8 * block_size * (block_size + 1) // 2 + 32
    workspace = _WORKSPACE.get(device, _WORKSPACE["cpu"])
    beside = _beside(sizes, pattern, scope, workers, held) + workspace
    fit = (budget - beside) // per_block  # blocks a worker
    if fit < 1:
        needed = (beside + per_block) / 2**30
        raise StageError(
            f"an OBS step of these layers needs at least {needed:.3f} GiB a worker beside the"
            f" model, {budget / 2**30:.3f} GiB are free. Set cluster.memory_gb to more (null:"
            " what is free), run fewer stages at a time, or set method.fisher_block_size lower."
        )
    rounds: list[Round] = []
    load: list[int] = []  # blocks a worker
    for layer, size in sizes.items():
        blocks = -(-size // block_size)
        pieces = -(-blocks // (fit * workers))
        for segment in Segment(layer, 0, size).shares(pieces, block_size):
            share = max(-(-len(s) // block_size) for s in segment.shares(workers, block_size))
            if rounds and pieces == 1 and load[-1] + share <= fit:
                rounds[-1].append(segment)
                load[-1] += share
            else:
                rounds.append([segment])
                load.append(share)
    return MemoryPlan(
        _together(rounds, pattern, scope), max(load) * per_block, sum(load) * per_block, budget
    )


def _together(rounds: list[Round], pattern: Pattern, scope: Scope) -> list[list[Round]]:
    if not pattern.groups_compete:  # each group chooses among its own candidates
        return [[single] for single in rounds]
    if scope == "global":
        return [rounds]
    return [list(same) for _, same in groupby(rounds, key=lambda r: r[0].layer)]


def _beside(
    sizes: Mapping[str, int], pattern: Pattern, scope: Scope, workers: int, held: int
) -> int:
    """Bytes a step holds beside inverses.

    Weights as they were and will be, masks, costs, and the larger of the gradients at hand, with
    what their source holds, and the work of choosing.
    """
    total, largest = sum(sizes.values()), max(sizes.values())
    sets = len(pattern.candidates) / pattern.size  # a weight
    ranked = total if scope == "global" and pattern.groups_compete else largest
    copies = 1 if workers == 1 else 3  # drawn, sent, received
    gradients = held + 4 * AT_ONCE * largest * copies
    return int(9 * total + 4 * sets * total + max(gradients, _CHOICE * sets * ranked))
