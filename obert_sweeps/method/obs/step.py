"""One OBS step: costs, choice and update of all layers, in the rounds of a memory plan.

Several workers take it together. Each holds the inverses of its own share of every segment; a
mini-batch gradient that one has drawn is cut into the shares and exchanged, so that all
mini-batches reach all shares. Costs and updated weights are gathered: every worker makes the same
choice and ends with the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...schema import StageError
from ...sparsity.pattern import Scope
from ..base import PruneStep
from . import surgery
from .fisher import FisherInverse
from .rounds import MemoryPlan, Round, Segment
from .scratch import Scratch, StoredInverse

Update = Literal["simultaneous", "joint"]


@dataclass(frozen=True)
class Settings:
    """What OBert's constructor says, for the pattern at hand."""

    num_grads: int
    grad_batch_size: int
    block_size: int
    damp: float
    scope: Scope
    update: Update


class ObsStep:
    """`run` computes weights and masks for a sparsity; the model and its masks are only read."""

    def __init__(
        self, step: PruneStep, how: Settings, plan: MemoryPlan, level: float, draw: int = 0
    ) -> None:
        self.step = step
        self.how = how
        self.plan = plan
        self.level = level
        self.draw = draw
        self.old_weights = {name: layer.weight.detach() for name, layer in step.layers.items()}
        self.old_keep = step.masks.keep
        self.weights = {name: torch.empty_like(w) for name, w in self.old_weights.items()}
        self.keep = {name: torch.empty_like(k) for name, k in self.old_keep.items()}

    @torch.no_grad()
    def run(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The new weights and keep-masks by layer. StageError if they cannot be computed."""
        for rounds in self.plan.together:
            with ExitStack() as stack:
                scratch = None
                if self.step.scratch is not None and len(rounds) > 1:
                    size = self.plan.waiting(rounds)
                    scratch = stack.enter_context(Scratch(self.step.scratch, size))
                self._decide(rounds, scratch)
        return self.weights, self.keep

    def _decide(self, rounds: list[Round], scratch: Scratch | None) -> None:
        """Costs of all rounds, the choice, updates.

        The inverses of the last round are still there for its update; those of the others are read
        again or collected again.
        """
        costs: dict[Segment, Tensor] = {}
        stored: dict[Segment, StoredInverse] = {}
        for segments in rounds[:-1]:
            inverses = self._collect(segments)
            costs |= self._costs(segments, inverses)
            if scratch is not None:
                stored |= {segment: scratch.keep(inverse) for segment, inverse in inverses.items()}
            del inverses  # before the next are made
        inverses = self._collect(rounds[-1])
        costs |= self._costs(rounds[-1], inverses)
        self._choose(costs)
        self._update(rounds[-1], inverses)
        del inverses
        for segments in rounds[:-1]:
            self._update(segments, self._collect(segments) if scratch is None else stored)

    def _own(self, segment: Segment) -> Segment:
        return self._shares(segment)[self.step.group.rank]

    def _shares(self, segment: Segment) -> list[Segment]:
        return segment.shares(self.step.group.size, self.how.block_size)

    def _collect(self, segments: Round) -> dict[Segment, FisherInverse]:
        """The inverses of this worker's shares, from `num_grads` masked gradients of all workers.

        Workers without a share of a small segment have no entry for it.
        """
        how, step = self.how, self.step
        inverses: dict[Segment, FisherInverse] = {}
        for segment in segments:
            if count := len(self._own(segment)):
                device = self.old_weights[segment.layer].device
                inverses[segment] = FisherInverse(
                    count, how.block_size, how.damp, how.num_grads, device
                )
        here = {segment.layer: segment for segment in segments}
        came = dict.fromkeys(here, 0)
        with torch.enable_grad():
            drawn = step.gradients(
                how.num_grads, how.grad_batch_size, draw=self.draw, layers=here.keys()
            )
            for name, grads in drawn:
                segment = here[name]
                came[name] += self._add(segment, inverses.get(segment), grads.detach())
                del grads  # before the next is made
        count = min(came.values())
        if count < how.num_grads:
            raise StageError(
                f"{count} gradients came of the {how.num_grads} asked for (method.num_grads): the"
                " training data ended. Lower method.num_grads, or train on more rows."
            )
        return inverses

    def _add(self, segment: Segment, inverse: FisherInverse | None, grads: Tensor) -> int:
        """Masked gradients of this worker's share enter `inverse`; how many came of all workers."""
        parts = self.step.group.exchange([share.of(grads) for share in self._shares(segment)])
        if inverse is not None:
            kept = self._own(segment).of(self.old_keep[segment.layer])
            for part in parts:
                inverse.add(part if self.step.masks.is_dense else part.mul_(kept))
        return sum(len(part) for part in parts)

    def _costs(
        self, segments: Round, inverses: dict[Segment, FisherInverse]
    ) -> dict[Segment, Tensor]:
        """The costs of whole segments, (1, n / size) or (1, n / size, candidates)."""
        pattern, found = self.step.pattern, {}
        shape = (1, -1) if pattern.groups_compete else (1, -1, len(pattern.candidates))
        for segment in segments:
            weight = self._own(segment).of(self.old_weights[segment.layer])
            mine = weight.new_empty(0, dtype=torch.float32)
            if segment in inverses:
                mine = surgery.costs(
                    inverses[segment], weight.unsqueeze(0), pattern.size, pattern.candidates
                ).flatten()
            lengths = [
                len(share) // pattern.size * len(pattern.candidates)
                for share in self._shares(segment)
            ]
            found[segment] = self.step.group.gather(mine, lengths).view(shape)
        return found

    def _choose(self, costs: dict[Segment, Tensor]) -> None:
        """Write the new masks of the segments that `costs` has; empties it."""
        by_layer: dict[str, list[Segment]] = {}
        for segment in costs:
            by_layer.setdefault(segment.layer, []).append(segment)
        wholes, joined, keep = {}, {}, {}
        for name, segments in by_layer.items():
            parts = [costs.pop(segment) for segment in segments]
            joined[name] = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
            wholes[name] = Segment(name, segments[0].begin, segments[-1].end)
            keep[name] = wholes[name].of(self.old_keep[name]).unsqueeze(0)
        kept = self.step.pattern.select(joined, self.level, self.how.scope, keep)
        for name, whole in wholes.items():
            whole.of(self.keep[name]).copy_(kept[name][0])

    def _update(self, segments: Round, inverses: Mapping[Segment, surgery.InverseBlocks]) -> None:
        """Write the new weights of `segments`."""
        for segment in segments:
            own, name = self._own(segment), segment.layer
            mine = own.of(self.old_weights[name])
            gone = own.of(self.old_keep[name]) & ~own.of(self.keep[name])
            if segment in inverses:
                inverse = inverses[segment]
                mine = self._compensated(inverse, mine.unsqueeze(0), gone.unsqueeze(0))[0]
            lengths = [len(share) for share in self._shares(segment)]
            updated = self.step.group.gather(mine, lengths)
            if not bool(torch.isfinite(updated).all()):
                raise StageError(
                    f"the OBS update of layer {name} is not finite. Raise method.damp or"
                    " method.num_grads, or prune in smaller steps."
                )
            segment.of(self.weights[name]).copy_(updated)

    def _compensated(self, inverse: surgery.InverseBlocks, weight: Tensor, gone: Tensor) -> Tensor:
        if self.how.update == "joint":
            return surgery.jointly_compensated(inverse, weight, gone)
        return surgery.compensated(inverse, weight, gone, self.step.pattern.size)
