"""The Optimal BERT Surgeon."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from ..schema import RequestError, StageError
from ..sparsity.pattern import Scope, check_scope
from . import surgery
from .base import Method, PruneStep
from .fisher import FisherInverse

FISHER_BLOCK_SIZE: Mapping[str, int] = MappingProxyType(
    {"unstructured": 50, "block4": 32, "2of4": 48}
)
_GRADS_AT_ONCE = 32  # gradients gathered before they enter the sums: as many copies of the weights


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

    Caveats: memory is 4 (B + 1) bytes a weight, plus 32 gradients. Correlations between sets that
    go together are ignored in scores, and in the published update: where weights of a Fisher block
    are strongly correlated, one large step overshoots and can do worse than magnitude;
    recomputation mends it. A step that fails leaves weights and masks as they were before it.
    """

    def __init__(
        self,
        *,
        num_grads: int = 1024,
        fisher_block_size: int | Mapping[str, int] = FISHER_BLOCK_SIZE,
        damp: float = 1e-7,
        grad_batch_size: int = 16,
        num_recomputations: int = 1,
        scope: Scope = "global",
        update: Literal["simultaneous", "joint"] = "simultaneous",
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

    def prune(self, step: PruneStep) -> None:
        """Bring weights and masks to `step.level`; StageError leaves both as they were."""
        block_size = self._block_size(step)
        rounds = self.num_recomputations
        if rounds == 1:
            self._surgery(step, step.level, block_size)
            return
        if not step.pattern.gradual:
            raise StageError(
                f"pattern {step.pattern.name} has no sparsities between dense and its target, so"
                f" method.num_recomputations={rounds} has no meaning. Set it to 1."
            )
        weights = {name: layer.weight.detach().clone() for name, layer in step.layers.items()}
        keep = step.masks.keep
        begin = step.masks.sparsity()
        try:
            for i in range(1, rounds + 1):
                level = begin + (step.level - begin) * i / rounds if i < rounds else step.level
                self._surgery(step, level, block_size, draw=i - 1)
        except BaseException:
            _commit(step, weights, keep)
            raise

    def _block_size(self, step: PruneStep) -> int:
        """B for the pattern at hand."""
        sizes, pattern = self.fisher_block_size, step.pattern
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
                f"method.fisher_block_size {size} is no multiple of {pattern.size}, the group size"
                f" of pattern {pattern.name}: groups would be cut in two. Set it to {near} or"
                f" {near + pattern.size}."
            )
        return size

    @torch.no_grad()
    def _surgery(self, step: PruneStep, level: float, block_size: int, draw: int = 0) -> None:
        """One OBS step. Nothing is written to the model before everything is computed."""
        pattern, keep = step.pattern, step.masks.keep
        for name, layer in step.layers.items():
            pattern.grouped(layer.weight, name)  # refuses a shape before the gradients are paid for
        inverses = self._collect(step, keep, block_size, draw)
        costs = {
            name: surgery.costs(inverses[name], layer.weight, pattern.size, pattern.candidates)
            for name, layer in step.layers.items()
        }
        kept = pattern.select(costs, level, self.scope, keep)
        del costs
        weights: dict[str, Tensor] = {}
        for name, layer in step.layers.items():
            gone = keep[name] & ~kept[name]
            inverse = inverses.pop(name)  # freed as soon as it is used
            weights[name] = (
                surgery.jointly_compensated(inverse, layer.weight, gone)
                if self.update == "joint"
                else surgery.compensated(inverse, layer.weight, gone, pattern.size)
            )
            if not bool(torch.isfinite(weights[name]).all()):
                raise StageError(
                    f"the OBS update of layer {name} is not finite. Raise method.damp or"
                    " method.num_grads, or prune in smaller steps."
                )
        _commit(step, weights, kept)

    def _collect(
        self, step: PruneStep, keep: dict[str, Tensor], block_size: int, draw: int
    ) -> dict[str, FisherInverse]:
        """The inverse of each layer from `num_grads` masked gradients."""
        held = min(_GRADS_AT_ONCE, self.num_grads)
        inverses: dict[str, FisherInverse] = {}
        buffers: dict[str, Tensor] = {}
        for name, layer in step.layers.items():
            weight = layer.weight
            inverses[name] = FisherInverse(
                weight.numel(), block_size, self.damp, self.num_grads, weight.device
            )
            buffers[name] = torch.empty(held, *weight.shape, device=weight.device)
        counts = dict.fromkeys(buffers, 0)
        filled = dict.fromkeys(buffers, 0)
        with torch.enable_grad():
            drawn = step.gradients(self.num_grads, self.grad_batch_size, draw=draw)
            for name, grads in drawn:
                for grad in grads:
                    buffer = buffers[name]
                    torch.mul(grad.detach(), keep[name], out=buffer[filled[name]])
                    counts[name] += 1
                    filled[name] += 1
                    if filled[name] == held or counts[name] == self.num_grads:
                        inverses[name].add(buffer[: filled[name]].flatten(start_dim=1))
                        filled[name] = 0
        count = min(counts.values(), default=self.num_grads)
        if count != self.num_grads:
            raise StageError(
                f"{count} gradients came of the {self.num_grads} asked for (method.num_grads): the"
                " training data ended. Lower method.num_grads, or train on more rows."
            )
        return inverses


@torch.no_grad()
def _commit(step: PruneStep, weights: dict[str, Tensor], keep: dict[str, Tensor]) -> None:
    for name, layer in step.layers.items():
        layer.weight.copy_(weights[name])
    step.masks.replace(keep)
    step.masks.apply()
