from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from obert_sweeps.method.base import PruneStep
from obert_sweeps.method.magnitude import Magnitude
from obert_sweeps.schema import RequestError
from obert_sweeps.sparsity.mask import Masks
from obert_sweeps.sparsity.pattern import pattern_named


def no_gradients(*args: Any, **more: Any) -> Iterator[tuple[str, torch.Tensor]]:
    raise AssertionError("magnitude needs no gradients")


def pruned(pattern: str, level: float, scope: str = "global") -> dict[str, tuple[np.ndarray, ...]]:
    """Weights before and after, by layer; layer b is ten times smaller than a."""
    torch.manual_seed(3)
    layers = {"a": nn.Linear(16, 6), "b": nn.Linear(8, 10)}
    nn.init.normal_(layers["a"].weight)
    nn.init.normal_(layers["b"].weight, std=0.1)
    before = {n: m.weight.detach().numpy().copy() for n, m in layers.items()}
    masks = Masks(layers)
    step = PruneStep(layers, masks, pattern_named(pattern), level, True, no_gradients)
    Magnitude(scope=scope).prune(step)
    masks.check()
    return {n: (before[n], layers[n].weight.detach().numpy()) for n in layers}


def test_global_takes_the_smallest_of_all_layers():
    result = pruned("unstructured", 0.6)
    before = np.concatenate([b.ravel() for b, _ in result.values()])
    after = np.concatenate([a.ravel() for _, a in result.values()])
    lowest = np.argsort(np.abs(before))[: round(0.6 * before.size)]
    expected = before.copy()
    expected[lowest] = 0.0
    np.testing.assert_array_equal(after, expected)


def test_tensor_takes_the_smallest_of_each_layer():
    for before, after in pruned("unstructured", 0.6, "tensor").values():
        lowest = np.argsort(np.abs(before).ravel())[: round(0.6 * before.size)]
        expected = before.copy().ravel()
        expected[lowest] = 0.0
        np.testing.assert_array_equal(after.ravel(), expected)


def test_a_block_counts_by_its_mean_magnitude():
    result = pruned("block4", 0.5)
    before = np.concatenate([b.reshape(-1, 4) for b, _ in result.values()])
    after = np.concatenate([a.reshape(-1, 4) for _, a in result.values()])
    lowest = np.argsort(np.abs(before).mean(1))[: round(0.5 * len(before))]
    expected = before.copy()
    expected[lowest] = 0.0
    np.testing.assert_array_equal(after, expected)


def test_two_of_four_keeps_the_two_largest_of_each_group():
    for before, after in pruned("2of4", 0.5).values():
        groups = before.reshape(-1, 4).copy()
        np.put_along_axis(groups, np.argsort(np.abs(groups), 1)[:, :2], 0.0, axis=1)
        np.testing.assert_array_equal(after.reshape(-1, 4), groups)


def test_an_unknown_scope_is_refused():
    with pytest.raises(RequestError, match="global, tensor"):
        Magnitude(scope="layer")  # type: ignore[arg-type]
