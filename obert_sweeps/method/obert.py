"""The Optimal BERT Surgeon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import torch
from torch import Tensor

from ..schema import RequestError, StageError
from ..sparsity.pattern import Pattern, Scope, check_scope
from .base import Asked, Method, PruneStep
from .obs.memory import budget
from .obs.rounds import MemoryPlan, plan_rounds
from .obs.step import ObsStep, Settings, Update

FISHER_BLOCK_SIZE: Mapping[str, int] = MappingProxyType(
    {"unstructured": 50, "block4": 32, "2of4": 48}
)


class OBert(Method):
    """Second-order pruning: the sets of weights whose loss rises least go, the rest compensate.

    The rise is measured with a block-diagonal empirical Fisher of the task loss. A pruning step
    collects `num_grads` mini-batch gradients in the model as it is, masked, so that pruned weights
    neither count nor move; scores every candidate set of the pattern from the weights before the
    update; lets the cheapest go; moves the weights that stay by one simultaneous update; and sets
    the pruned ones to exactly zero. Pruned weights stay pruned.

    Source: Kurtic et al. 2022, "The Optimal BERT Surgeon", section 3 (arXiv 2203.07259); sparseml
    modifier_pruning_obs.py. For 2:4 the paper names only "the semi-structured variant"; here all
    six pairs of each group of four are scored exactly, as section 3.1 defines a group's score.

    num_grads: m, mini-batch gradients a pruning step. grad_batch_size: rows in each. damp: lambda.
    fisher_block_size: B, consecutive weights along a row of the weight that may compensate each
    other; one number, or one for each pattern by name; a multiple of the pattern's group size.
    num_recomputations: r; above 1 the step is taken in r parts with linearly spaced sparsities and
    new gradients for each; only for patterns that have intermediate sparsities. scope: "global"
    ranks all layers together, "tensor" each apart. update: "simultaneous", as published: each set
    is compensated as if it went alone, and the updates are added; "joint": the exact compensation
    of all that goes in a Fisher block together.

    Memory: the inverse takes 4 (B + 1) bytes a weight, divided by the number of workers; what does
    not fit at once is taken in rounds, with equal results, each with gradients of its own, and
    waits for the choice on disk or is computed again.

    Caveats: correlations between sets that go together are ignored in scores, and in the published
    update: where weights of a Fisher block are strongly correlated, one large step overshoots and
    can do worse than magnitude; recomputation mends it. A step that fails leaves weights and masks
    as they were before it.
    """

    version = 2  # 2: no two seeds of a stage draw the same gradients for any of their steps

    def __init__(
        self,
        *,
        num_grads: int = 1024,
        fisher_block_size: int | Mapping[str, int] = FISHER_BLOCK_SIZE,
        damp: float = 1e-7,
        grad_batch_size: int = 16,
        num_recomputations: int = 1,
        scope: Scope = "global",
        update: Update = "simultaneous",
    ) -> None:
        super().__init__()
        check_scope(scope)
        if update not in ("simultaneous", "joint"):
            raise RequestError(f"method.update is {update!r}; choose simultaneous or joint.")
        counts = {
            "num_grads": num_grads,
            "grad_batch_size": grad_batch_size,
            "num_recomputations": num_recomputations,
            **(
                {f"fisher_block_size.{k}": v for k, v in fisher_block_size.items()}
                if isinstance(fisher_block_size, Mapping)
                else {"fisher_block_size": fisher_block_size}
            ),
        }
        for key, value in counts.items():
            if value < 1:
                raise RequestError(f"method.{key} is {value}; it must be at least 1.")
        if damp <= 0:
            raise RequestError(
                f"method.damp is {damp:g}; it must be above 0, or the Fisher has no inverse. The"
                " paper's value is 1e-7."
            )
        self.num_grads = num_grads
        self.fisher_block_size = fisher_block_size
        self.damp = damp
        self.grad_batch_size = grad_batch_size
        self.num_recomputations = num_recomputations
        self.scope = scope
        self.update = update

    def check(self, asked: Asked) -> None:
        super().check(asked)
        self._block_size(asked.pattern)
        self._check_parts(asked.pattern)

    def prune(self, step: PruneStep) -> None:
        """Bring weights and masks to `step.level`; whatever is raised leaves both as they were."""
        how = self._settings(step)
        self._check(step)
        plan = self._plan(step, how)
        begin, parts = step.masks.sparsity(), self.num_recomputations
        with _undone_on_failure(step):
            for part in range(1, parts + 1):
                level = begin + (step.level - begin) * part / parts if part < parts else step.level
                weights, keep = ObsStep(step, how, plan, level, draw=part - 1).run()
                _commit(step, weights, keep)

    def _settings(self, step: PruneStep) -> Settings:
        return Settings(
            num_grads=self.num_grads,
            grad_batch_size=self.grad_batch_size,
            block_size=self._block_size(step.pattern),
            damp=self.damp,
            scope=self.scope,
            update=self.update,
        )

    def _block_size(self, pattern: Pattern) -> int:
        """B for the pattern at hand."""
        sizes = self.fisher_block_size
        if isinstance(sizes, Mapping):
            if pattern.name not in sizes:
                raise StageError(
                    f"method.fisher_block_size has no entry for pattern {pattern.name}. Add one,"
                    " or give one number for all patterns."
                )
            size = sizes[pattern.name]
        else:
            size = sizes
        if size % pattern.size:
            near = max(size - size % pattern.size, pattern.size)
            raise StageError(
                f"method.fisher_block_size {size} is not a multiple of {pattern.size}, the group"
                f" size of pattern {pattern.name}: groups would be cut in two. Set it to {near} or"
                f" {near + pattern.size}."
            )
        return size

    def _check(self, step: PruneStep) -> None:
        """Refuse what cannot be done before any gradient is paid for."""
        self._check_parts(step.pattern)
        for name, layer in step.layers.items():
            step.pattern.grouped(layer.weight, name)

    def _check_parts(self, pattern: Pattern) -> None:
        if self.num_recomputations > 1 and not pattern.gradual:
            raise StageError(
                f"pattern {pattern.name} has no sparsities between dense and its target, so"
                f" method.num_recomputations={self.num_recomputations} has no meaning. Set it to 1."
            )

    def _plan(self, step: PruneStep, how: Settings) -> MemoryPlan:
        """The step's rounds, the same for every worker; told in the stage's log."""
        sizes = {name: layer.weight.numel() for name, layer in step.layers.items()}
        device = next(iter(step.layers.values())).weight.device
        found = plan_rounds(
            sizes,
            how.block_size,
            step.pattern,
            how.scope,
            budget(step.memory, step.group, device),
            held=step.held(how.grad_batch_size),
            workers=step.group.size,
            device=device.type,
        )
        step.note(found.describe(step.scratch is not None))
        return found


@contextmanager
def _undone_on_failure(step: PruneStep) -> Iterator[None]:
    """Weights and masks are put back if anything is raised, an interrupt included."""
    weights = {name: layer.weight.detach().clone() for name, layer in step.layers.items()}
    keep = step.masks.keep
    try:
        yield
    except BaseException:
        _write(step, weights, keep)
        raise


def _commit(step: PruneStep, weights: dict[str, Tensor], keep: dict[str, Tensor]) -> None:
    _write(step, weights, keep)
    step.masks.apply()


@torch.no_grad()
def _write(step: PruneStep, weights: dict[str, Tensor], keep: dict[str, Tensor]) -> None:
    for name, layer in step.layers.items():
        layer.weight.copy_(weights[name])
    step.masks.replace(keep)
