"""A few linear layers with scores of a test's choosing, for methods that put gates on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from obert_sweeps.method.base import PruneStep
from obert_sweeps.method.gate import GatedMethod
from obert_sweeps.sparsity.mask import Masks
from obert_sweeps.sparsity.pattern import pattern_named


class Layers:
    """float64 layers with random weights; `scores` replaces the method's, one array a layer."""

    def __init__(self, method: GatedMethod, scores: list[np.ndarray], seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.method = method
        self.layers = {
            f"layer{i}": nn.Linear(s.shape[1], s.shape[0]).double() for i, s in enumerate(scores)
        }
        self.masks = Masks(self.layers)
        self.groups = method.attach(self.layers, self.masks)
        self.notes: list[str] = []
        with torch.no_grad():
            for parameter, score in zip(method.scores, scores, strict=True):
                parameter.copy_(torch.from_numpy(score))

    def prune(self, level: float, final: bool = False, **changes: Any) -> None:
        pattern = pattern_named(changes.pop("pattern", "unstructured"))
        self.method.prune(
            PruneStep(
                layers=self.layers,
                masks=self.masks,
                pattern=pattern,
                level=level,
                final=final,
                gradients=None,  # type: ignore[arg-type]
                note=self.notes.append,
                **changes,
            )
        )

    def gates(self) -> list[np.ndarray]:
        """What the layers' weights are multiplied by now."""
        return [
            (self.method.gated_weight(name) / layer.weight).detach().numpy()
            for name, layer in self.layers.items()
        ]

    def kept(self) -> list[np.ndarray]:
        return [mask.numpy() for mask in self.masks.keep.values()]

    def weights(self) -> list[np.ndarray]:
        return [layer.weight.detach().numpy().copy() for layer in self.layers.values()]


def draw(seed: int, *shapes: tuple[int, int], spread: float = 3.0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.normal(scale=spread, size=shape) for shape in shapes]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def top(scores: np.ndarray, count: int) -> np.ndarray:
    """True at the `count` highest, by sorting."""
    order = np.argsort(-scores.ravel(), kind="stable")[:count]
    chosen = np.zeros(scores.size, dtype=bool)
    chosen[order] = True
    return chosen.reshape(scores.shape)


def price_of(method: GatedMethod) -> torch.Tensor:
    """The method's penalty, where there is one."""
    penalty = method.penalty()
    assert penalty is not None
    return penalty


def check_gradient(
    f: Callable[[], torch.Tensor],
    parameters: Iterable[nn.Parameter],
    indices: Sequence[tuple[int, int]],
    **tolerance: float,
) -> None:
    """The gradient of f(), at these entries of each parameter, is that of differences."""
    f().backward()
    for parameter in parameters:
        assert parameter.grad is not None
        for index in indices:
            expected = finite_difference(f, parameter, index)
            assert float(parameter.grad[index]) == pytest.approx(expected, **tolerance)


def finite_difference(f: Any, parameter: nn.Parameter, index: tuple[int, int]) -> float:
    """df/dp at an entry, central, in float64."""
    eps, found = 1e-5, []
    for sign in (1, -1):
        with torch.no_grad():
            parameter[index] += sign * eps
            found.append(float(f()))
            parameter[index] -= sign * eps
    return (found[0] - found[1]) / (2 * eps)
