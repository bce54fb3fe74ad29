"""Costs and updates against brute-force subsets and quadratic minima, in dense float64 algebra."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from dense_fisher import DAMP, built, dense_blocks, gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_sweeps.method.obs import surgery

PAIRS = list(combinations(range(4), 2))


def quadratic(seed: int, shape: tuple[int, int], block: int, m: int = 40, scale: float = 0.1):
    """An inverse, its weight, and the dense float64 blocks of both F and F^-1."""
    out, inputs = shape
    grads = gradients("full", m, out * inputs, scale, seed)
    weight = torch.tensor(np.random.default_rng(seed + 1).standard_normal(shape)).float()
    return built(grads, block, m), weight, dense_blocks(grads, block, DAMP, m)


def whole(blocks: np.ndarray, d: int) -> np.ndarray:
    """Block-diagonal (d, d)."""
    count, block, _ = blocks.shape
    result = np.zeros((count * block, count * block))
    for b in range(count):
        result[b * block : (b + 1) * block, b * block : (b + 1) * block] = blocks[b]
    return result[:d, :d]


def exact_cost(inverse: np.ndarray, w: np.ndarray, q: list[int]) -> float:
    return 0.5 * w[q] @ np.linalg.solve(inverse[np.ix_(q, q)], w[q])


@pytest.mark.parametrize("m", [3, 40, 300])
@pytest.mark.parametrize(
    ("size", "candidates"), [(1, [(0,)]), (4, [(0, 1, 2, 3)]), (4, PAIRS), (2, [(0,), (1,)])]
)
def test_costs_by_brute_force_over_all_subsets(size, candidates, m):
    shape, block = (3, 20), 24
    inverse, weight, blocks = quadratic(5, shape, block, m, scale=1.0)
    full, w = whole(blocks, 60), weight.double().numpy().reshape(-1)
    got = surgery.costs(inverse, weight, size, candidates)
    expected = np.array(
        [
            [exact_cost(full, w, [g * size + i for i in c]) for c in candidates]
            for g in range(60 // size)
        ]
    )
    shape = (3, 20 // size) if len(candidates) == 1 else (3, 20 // size, len(candidates))
    assert got.shape == shape and got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy().reshape(expected.shape), expected, rtol=2e-5)


def test_single_weight_costs_are_the_paper_formula():
    inverse, weight, _ = quadratic(0, (4, 25), 10)
    expected = weight.double() ** 2 / (2 * inverse.diag().view(4, 25))
    torch.testing.assert_close(surgery.costs(inverse, weight, 1, [(0,)]).double(), expected)


@pytest.mark.parametrize("size", [1, 4])
def test_the_update_is_one_simultaneous_product_and_then_zeros(size):
    shape, block = (3, 20), 24
    inverse, weight, blocks = quadratic(7, shape, block)
    full, w = whole(blocks, 60), weight.double().numpy().reshape(-1)
    gone = np.random.default_rng(3).random(60) < 0.4
    v = np.zeros(60)
    for g in range(60 // size):
        q = [i for i in range(g * size, (g + 1) * size) if gone[i]]
        if q:
            v[q] = np.linalg.solve(full[np.ix_(q, q)], w[q])
    expected = w - full @ v
    expected[gone] = 0.0
    got = surgery.compensated(inverse, weight, torch.tensor(gone).view(shape), size)
    assert got.dtype == torch.float32 and not got.view(-1)[torch.tensor(gone)].any()
    np.testing.assert_allclose(got.numpy().reshape(-1), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("candidate", [(0,), (0, 2), (1, 2, 3), (0, 1, 2, 3)])
def test_for_one_set_the_update_is_the_minimum_of_the_quadratic(candidate):
    """1/2 dw F dw subject to w + dw = 0 on Q: least squares over the weights that stay."""
    shape, block, group = (1, 12), 12, 1
    inverse, weight, blocks = quadratic(11, shape, block)
    hessian = np.linalg.inv(blocks[0])
    w = weight.double().numpy().reshape(-1)
    q = [4 * group + i for i in candidate]
    rest = [i for i in range(12) if i not in q]
    change = np.zeros(12)
    change[q] = -w[q]
    change[rest] = (
        -np.linalg.solve(hessian[np.ix_(rest, rest)], hessian[np.ix_(rest, q)]) @ change[q]
    )
    minimum = 0.5 * change @ hessian @ change

    gone = torch.zeros(1, 12, dtype=torch.bool)
    gone[0, q] = True
    got = surgery.compensated(inverse, weight, gone, 4).double().numpy().reshape(-1)
    np.testing.assert_allclose(got, w + change, rtol=1e-4, atol=1e-5)
    loss = 0.5 * (got - w) @ hessian @ (got - w)
    assert loss == pytest.approx(minimum, rel=1e-4)
    cost = surgery.costs(inverse, weight, 4, [candidate])[0, group]
    assert float(cost) == pytest.approx(minimum, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    d=st.integers(2, 60),
    block=st.integers(1, 24),
    m=st.integers(1, 60),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 999),
)
def test_the_joint_update_is_the_minimum_of_the_quadratic_in_each_block(d, block, m, share, seed):
    """What goes is fixed at zero; the rest minimises 1/2 dw F dw, by least squares in float64."""
    inverse, weight, blocks = quadratic(seed, (1, d), block, m)
    w = weight.double().numpy().reshape(-1)
    gone = np.random.default_rng(seed).random(d) < share
    expected = w.copy()
    for b, part in enumerate(blocks):
        at = np.arange(b * block, min((b + 1) * block, d))
        hessian = np.linalg.inv(part)[: len(at), : len(at)]
        q, rest = np.flatnonzero(gone[at]), np.flatnonzero(~gone[at])
        moved = np.linalg.solve(hessian[np.ix_(rest, rest)], hessian[np.ix_(rest, q)] @ w[at][q])
        expected[at[rest]] += moved
    expected[gone] = 0.0
    got = surgery.jointly_compensated(inverse, weight, torch.tensor(gone).view(1, d))
    assert not got.view(-1)[torch.tensor(gone)].any()
    scale = np.abs(expected).max() + 1e-30
    np.testing.assert_allclose(got.numpy().reshape(-1) / scale, expected / scale, atol=1e-3)


def test_nothing_pruned_changes_nothing():
    inverse, weight, _ = quadratic(2, (2, 8), 8)
    assert torch.equal(
        surgery.compensated(inverse, weight, torch.zeros(2, 8, dtype=torch.bool), 4), weight
    )


def test_groups_cut_by_a_fisher_block_are_refused():
    inverse, weight, _ = quadratic(2, (2, 8), 6)
    with pytest.raises(ValueError, match="do not divide"):
        surgery.costs(inverse, weight, 4, PAIRS)
