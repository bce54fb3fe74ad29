"""The method protocol: which weights go, and how the rest are updated.

Four verbs, each with an empty default. How the document's methods fit them:

* magnitude: `prune` zeroes the lowest |w|.
* obert: `prune` scores with gradients, compensates, zeroes.
* l0: `attach` puts gates on the layers, `penalty` is lambda times the expected kept share, the last
  `prune` closes the gates.
* movement: `attach` puts scores on the layers, `prune` sets a new threshold, the last one makes
  masks; soft movement has lambda times the sigmoid of the scores as `penalty`.
* platon: `after_step` keeps moving averages of |w g|, `prune` zeroes the lowest scores; what is
  zeroed may grow again until the last one.

Before anything is started `check` is asked whether pattern and schedule suit the method. The loop
calls the verbs in this order: `attach` once; then for each optimiser step, `prune` when the
schedule says so, forward, backward of loss + `penalty`, optimiser step, `after_step` (gradients
are still there), masks re-applied. A method with state keeps it in parameters and buffers, so that
`state_dict` saves and restores it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from ..schema import RequestError
from ..sparsity.mask import Masks
from ..sparsity.pattern import Pattern, Scope
from ..worker_group import ALONE, WorkerGroup

AT_ONCE = 32
"""Mini-batches whose gradients of a layer may come in one tensor: so many times its weights, which
a pruning step reckons with."""


class Gradients(Protocol):
    """Where a pruning step gets gradients of single mini-batches from."""

    def __call__(
        self,
        count: int,
        batch_size: int,
        *,
        draw: int = 0,
        layers: Collection[str] | None = None,
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield `count` mini-batch gradients, layer by layer: (name, float32 (k, out, in)).

        Each is of the mean hard-label task loss of `batch_size` rows, in eval mode. A few
        mini-batches, k <= AT_ONCE, come at a time: every layer once, then the next few. A tensor
        is valid, and the caller's to write to, until the next one is drawn. `layers`: these alone;
        None: all that can be pruned.

        The same `draw` gives the same mini-batches in the same order, another one others. `count`
        is that of all workers together: a worker yields its own share, and every worker the same
        number of tensors of the same k, zeros beyond the count.
        """
        ...


@dataclass
class PruneStep:
    """One pruning step, as the schedule asks for it."""

    layers: dict[str, nn.Linear]  # the prunable layers, by name
    masks: Masks  # what is pruned so far; `prune` replaces it
    pattern: Pattern
    level: float  # share of prunable weights to be zero after this step, 0..1
    final: bool  # no pruning step follows
    gradients: Gradients
    seed: int = 0
    target: float = 0.0  # the level that the schedule ends at
    note: Callable[[str], None] = lambda text: None  # a line for the stage's log
    group: WorkerGroup = ALONE
    """The stage's workers. All of them take the same step, each with its share of gradients."""
    memory: int | None = None  # bytes this worker may use for the step; None: what is free
    scratch: Path | None = None  # a folder for what does not fit; None: it is computed again
    held: Callable[[int], int] = lambda batch_size: 0
    """Bytes that `gradients` of mini-batches of so many rows hold beside the tensor at hand."""

    def zero_lowest(self, importance: Mapping[str, torch.Tensor], scope: Scope) -> None:
        """Prune the weights of lowest importance, (out, in) by layer. Pruned ones stay pruned."""
        costs = {name: self.pattern.costs(values, name) for name, values in importance.items()}
        self.masks.replace(self.pattern.select(costs, self.level, scope, self.masks.keep))
        self.masks.apply()


@dataclass(frozen=True)
class Asked:
    """What a stage will ask of its method: `steps` as in `sparsity.schedule.pruning_steps`."""

    pattern: Pattern
    steps: Mapping[int, float]  # optimiser step before which a pruning step falls -> its level

    @property
    def last(self) -> int:
        """Optimiser steps taken before the last pruning step."""
        return max(self.steps)

    @property
    def target(self) -> float:
        """The level that the last pruning step leads to."""
        return self.steps[self.last]


class Method(nn.Module):
    """Keyword-only, typed constructor: it is the schema of the method's configuration leaf.

    `for_good`: what `prune` has put into the masks stays pruned, so its gradients are zeroed before
    they are clipped, as the document's authors do (sparseml, mask_params.py).

    `version`: raised by hand when the code of a method comes to give other results; its stages, and
    those that follow from them, are computed again. A plan reads it from the class's source, so it
    is written as a number.
    """

    for_good: ClassVar[bool] = True
    version: ClassVar[int] = 1

    def check(self, asked: Asked) -> None:
        """RequestError or StageError for what cannot be pruned as asked, before anything starts.

        Here: a level of any pruning step that the pattern does not have.
        """
        asked.pattern.check_level(asked.target)
        way = sorted(set(asked.steps.values()) - {asked.target})
        if way and not asked.pattern.gradual:
            raise RequestError(
                f"{asked.pattern.name} has no sparsities on the way to {asked.target:g}, and the"
                f" schedule has pruning steps to {', '.join(f'{level:.3g}' for level in way[:3])}"
                f"{', …' if len(way) > 3 else ''}. Use a schedule with a single pruning step, such"
                " as schedule=oneshot, or another pattern: sparsity=block4."
            )

    def attach(self, layers: dict[str, nn.Linear], masks: Masks) -> list[dict[str, Any]]:
        """Prepare the layers; return extra optimiser parameter groups."""
        return []

    def penalty(self) -> torch.Tensor | None:
        """A scalar added to the loss, with gradient; None for nothing."""
        return None

    def after_step(self) -> None:
        """See the gradients of the optimiser step just taken (clipped, not yet cleared)."""

    def prune(self, step: PruneStep) -> None:
        """Bring `step.masks` to `step.level` and the weights in line with it, in place."""
