"""Weight gradients of several mini-batches from passes that they share.

The gradient of a linear layer's weight is a sum over tokens: output gradient times input. So
forward and backward passes over rows of any mini-batches, which keep a layer's inputs X and output
gradients G, hold each mini-batch's own gradient: G_iᵀ X_i over the tokens of mini-batch i. These
products are made a layer at a time, when they are asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..schema import StageError


class Use(NamedTuple):
    """One use of a linear layer in a pass."""

    inputs: Tensor  # (rows, tokens, in)
    gradients: Tensor  # of the outputs, (rows, tokens, out)


Uses = dict[str, list[Use]]  # by layer; more than one where a pass uses a layer again


@torch.enable_grad()
def uses_of(model: nn.Module, layers: Mapping[str, nn.Linear], loss: Callable[[], Tensor]) -> Uses:
    """The uses of `layers` that `loss()`, which runs the model, depends on.

    Only what lies between the loss and the lowest of the layers is differentiated, and no weight;
    `grad` is left alone.
    """
    seen: list[tuple[str, Tensor, Tensor]] = []

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            if not output.requires_grad:
                output.requires_grad_()  # nothing below needs a gradient: the graph begins here
            seen.append((name, args[0].detach(), output))

        return hook

    # Before other hooks, which may make something else of the output.
    hooks = [
        layer.register_forward_hook(keep(name), prepend=True) for name, layer in layers.items()
    ]
    uses: Uses = {name: [] for name in layers}
    try:
        with _frozen(model):
            value = loss()
            if not value.requires_grad:
                return uses
            outputs = [output for _, _, output in seen]
            gradients = torch.autograd.grad(value, outputs, allow_unused=True)
    finally:
        for handle in hooks:
            handle.remove()
    for (name, inputs, _), gradient in zip(seen, gradients, strict=True):
        if gradient is not None:
            uses[name].append(Use(inputs, gradient))
    return uses


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


class GroupedGradients:
    """The gradients of `count` mini-batches, layer by layer.

    The mini-batches' rows are numbered through. `owners` (rows): which mini-batch each is of, 0 to
    count - 1, ascending. `lengths` (rows): real tokens, which come before the padding. Padding is
    left out: no loss may depend on it. A mini-batch without rows has zeros for gradients.
    """

    def __init__(self, owners: Sequence[int], lengths: Sequence[int], count: int) -> None:
        self._lengths = lengths
        self._begins = [0, *accumulate(lengths)]  # a row's first token among those of all rows
        sizes = Counter(owners)
        firsts = [0, *accumulate(sizes[owner] for owner in range(count))]
        self._owned = [
            slice(self._begins[first], self._begins[end]) for first, end in pairwise(firsts)
        ]
        self._passes: list[tuple[Uses, Tensor, Tensor]] = []
        self._buffers: dict[tuple[str, int], Tensor] = {}

    def add(self, rows: Sequence[int], width: int, uses: Uses) -> None:
        """What a pass over `rows`, padded to `width` tokens, left. Each row is in one pass.

        StageError if a layer's inputs are not (rows, tokens, in): whose they are is not known.
        """
        device = torch.device("cpu")
        for name, inputs in ((name, use.inputs) for name, found in uses.items() for use in found):
            if inputs.shape[:-1] != (len(rows), width):
                raise StageError(
                    f"layer {name} got inputs of shape {tuple(inputs.shape)} from {len(rows)} rows"
                    f" of {width} tokens: the gradients of single mini-batches cannot be told"
                    " apart. Leave the layer out of the model's prunable ones."
                )
            device = inputs.device
        tokens = [torch.arange(self._lengths[row]) for row in rows]
        source = torch.cat([place * width + part for place, part in enumerate(tokens)])
        target = torch.cat(
            [self._begins[row] + part for row, part in zip(rows, tokens, strict=True)]
        )
        self._passes.append((uses, source.to(device), target.to(device)))

    @torch.no_grad()
    def take(self, name: str, weight: Tensor) -> Tensor:
        """A layer's gradients, (count, out, in), once; valid until the next layer's are taken."""
        passes = [(uses.pop(name), source, target) for uses, source, target in self._passes]
        turns = max((len(uses) for uses, _, _ in passes), default=0)
        out_width, in_width = weight.shape
        total = self._buffer("products", len(self._owned) * out_width, in_width, weight)
        total = total.view(-1, out_width, in_width)
        if not turns:
            return total.zero_()
        inputs = self._buffer("inputs", self._begins[-1], in_width, weight)
        gradients = self._buffer("gradients", self._begins[-1], out_width, weight)
        for turn in range(turns):
            if any(len(uses) <= turn for uses, _, _ in passes):
                for buffer in (inputs, gradients):
                    buffer.zero_()  # what was there before
            for uses, source, target in passes:
                if turn < len(uses):
                    use = uses[turn]
                    inputs.index_copy_(0, target, use.inputs.flatten(0, 1)[source])
                    gradients.index_copy_(0, target, use.gradients.flatten(0, 1)[source])
            with torch.autocast(weight.device.type, enabled=False):
                # One by one: a batched product would pad each to the mini-batch with most tokens.
                for product, own in zip(total, self._owned, strict=True):
                    product.addmm_(gradients[own].T, inputs[own], beta=min(turn, 1))
        return total

    def _buffer(self, role: str, rows: int, width: int, like: Tensor) -> Tensor:
        """Made once for each size: fresh memory costs a fifth of the product's time on a CPU."""
        if (role, rows * width) not in self._buffers:
            self._buffers[role, rows * width] = like.new_empty(rows * width)
        return self._buffers[role, rows * width].view(rows, width)
