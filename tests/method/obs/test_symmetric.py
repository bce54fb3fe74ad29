"""Matrices held by half, against full ones in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from obert_sweeps.method.obs.symmetric import Products, SymmetricBlocks


def full_of(held: SymmetricBlocks) -> np.ndarray:
    place = torch.arange(held.size)
    return held.at(place[:, None], place).numpy()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_of_products(size, dtype):
    rng = np.random.default_rng(size)
    held = SymmetricBlocks(5, size, "cpu")
    products = Products(5, 3, size, held.device)
    expected = np.zeros((5, size, size))
    for chosen in (slice(0, 5), slice(1, 4), torch.tensor([4, 0, 3])):
        rows = rng.integers(-9, 9, (len(expected[chosen]), 3, size)).astype(float)
        scale = 2.0 ** rng.integers(-3, 3, (len(rows), 1, size))
        part = torch.tensor(rows, dtype=torch.float32)
        held.add(chosen, *products(part, torch.tensor(scale, dtype=torch.float32), dtype))
        expected[chosen] += np.einsum("nki,nkj->nij", rows * scale, rows * scale)
    np.testing.assert_array_equal(full_of(held), expected)
    np.testing.assert_array_equal(
        held.lower(torch.tensor([3, 1])).tril().numpy(), np.tril(expected[[3, 1]])
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 10])
@pytest.mark.parametrize("chosen", [slice(1, 3), torch.tensor([4, 0])])
def test_replaced_by_what_stands_on_and_below_the_diagonal(size, chosen):
    rng = np.random.default_rng(size)
    held = SymmetricBlocks(5, size, "cpu")
    ones = torch.ones(5, 1, size)
    held.add(slice(0, 5), *Products(5, 1, size, held.device)(ones, ones, torch.float64))
    new = rng.standard_normal((2, size, size))
    held.replace(chosen, torch.tensor(new))
    expected = np.ones((5, size, size))
    expected[chosen] = np.tril(new) + np.tril(new, -1).transpose(0, 2, 1)
    np.testing.assert_array_equal(full_of(held), expected)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 10])
def test_no_more_is_held_than_half(size):
    values = SymmetricBlocks(5, size, "cpu").values
    assert values.numel() == 5 * size * (size + 1) // 2
