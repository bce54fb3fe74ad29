"""The inverse Fisher against dense float64 algebra, brute-force subsets and quadratic minima."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_sweeps.method import fisher, surgery
from obert_sweeps.method.fisher import FisherInverse
from obert_sweeps.schema import StageError

DAMP = 1e-7
PAIRS = list(combinations(range(4), 2))


def gradients(kind: str, m: int, d: int, scale: float, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    g = rng.standard_normal((m, d))
    if kind == "dead":  # inputs that never fire
        g[:, rng.random(d) < 0.3] = 0.0
    if kind == "repeated":  # inputs that always fire alike
        g[:, 1::3] = g[:, 0::3][:, : g[:, 1::3].shape[1]]
    if kind == "low rank":
        g = rng.standard_normal((m, 3)) @ rng.standard_normal((3, d))
    return torch.tensor(scale * g, dtype=torch.float32)


def dense_blocks(grads: torch.Tensor, block: int, damp: float, m: int) -> np.ndarray:
    """float64: each block of lambda I + 1/m sum g g^T, inverted on its own, by eigenvalues."""
    k, d = grads.shape
    count = -(-d // block)
    padded = np.zeros((k, count * block))
    padded[:, :d] = grads.double().numpy()
    result = []
    for b in range(count):
        part = padded[:, b * block : (b + 1) * block]
        # eigenvectors by an SVD of the gradients: exact for rank-deficient blocks as well
        _, s, vt = np.linalg.svd(part, full_matrices=True)
        eigenvalues = np.full(block, damp)
        eigenvalues[: len(s)] += s**2 / m
        result.append((vt.T / eigenvalues) @ vt)
    return np.stack(result)


def built(grads: torch.Tensor, block: int, m: int, at_once: int = 16) -> FisherInverse:
    inverse = FisherInverse(grads.shape[1], block, DAMP, m)
    for part in grads.split(at_once):
        inverse.add(part)
    return inverse


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("scale", [1e-4, 1e-3, 1e-2, 1e-1, 1.0])
@pytest.mark.parametrize(
    ("kind", "m"),
    [("full", 64), ("full", 400), ("full", 12), ("dead", 80), ("repeated", 80), ("low rank", 40)],
)
def test_blocks_equal_the_dense_inverse(kind, m, scale):
    d, block = 173, 50
    grads = gradients(kind, m, d, scale)
    inverse = built(grads, block, m)
    expected = dense_blocks(grads, block, DAMP, m)
    got = inverse.blocks().numpy()
    assert relative_error(got, expected) < 1e-4
    for mine, theirs in zip(got, expected, strict=True):
        assert relative_error(mine, theirs) < 1e-4
        assert np.linalg.eigvalsh(mine)[0] > 0
        np.testing.assert_array_equal(mine, mine.T)
    diagonal = np.diagonal(expected, axis1=1, axis2=2).reshape(-1)[:d]
    np.testing.assert_allclose(inverse.diag().numpy(), diagonal, rtol=1e-5)
    vector = torch.tensor(np.random.default_rng(1).standard_normal(d))
    padded = np.zeros(expected.shape[0] * block)
    padded[:d] = vector.numpy()
    product = np.einsum("bij,bj->bi", expected, padded.reshape(-1, block)).reshape(-1)[:d]
    assert relative_error(inverse.mul(vector).numpy(), product) < 1e-4


@settings(max_examples=40)
@given(
    d=st.integers(1, 130),
    block=st.integers(1, 60),
    m=st.integers(1, 90),
    at_once=st.integers(1, 33),
    exponent=st.floats(-4, 0),
    seed=st.integers(0, 999),
)
def test_any_size_any_number_at_once(d, block, m, at_once, exponent, seed):
    grads = gradients("full", m, d, 10.0**exponent, seed)
    got = built(grads, block, m, at_once).blocks().numpy()
    assert relative_error(got, dense_blocks(grads, block, DAMP, m)) < 1e-4


def test_more_blocks_than_the_work_space_holds(monkeypatch):
    grads = gradients("full", 20, 1000, 1e-2)
    whole = built(grads, 12, 20)
    monkeypatch.setitem(fisher._WORKSPACE, "cpu", 12 * 12 * 8 * 7)
    parts = built(grads, 12, 20)
    assert len(list(parts.chunks())) > 10
    torch.testing.assert_close(parts.blocks(), whole.blocks(), rtol=1e-12, atol=0)


def test_the_sum_is_divided_by_the_target_count():
    grads = gradients("full", 10, 30, 1e-2)
    few = FisherInverse(30, 10, DAMP, 40)
    few.add(grads)
    expected = dense_blocks(grads, 10, DAMP, 40)
    assert relative_error(few.blocks().numpy(), expected) < 1e-4
    assert relative_error(few.blocks().numpy(), dense_blocks(grads, 10, DAMP, 10)) > 0.1


def test_one_gradient_or_several():
    grads = gradients("full", 5, 20, 1e-2)
    one = FisherInverse(20, 8, DAMP, 5)
    for g in grads:
        one.add(g)
    assert relative_error(one.blocks().numpy(), built(grads, 8, 5).blocks().numpy()) < 1e-4


def test_weights_without_gradient_stand_alone():
    grads = gradients("full", 30, 16, 1e-1)
    grads[:, 5] = 0.0
    block = built(grads, 16, 30).blocks()[0]
    assert block[5, 5] == pytest.approx(1 / DAMP)
    assert not block[5, torch.arange(16) != 5].any()


def test_wrong_use_is_refused():
    inverse = FisherInverse(10, 4, DAMP, 2)
    with pytest.raises(ValueError, match="for 10 weights"):
        inverse.add(torch.zeros(9))
    inverse.add(torch.ones(2, 10))
    with pytest.raises(ValueError, match="more than the 2"):
        inverse.add(torch.ones(10))
    inverse.diag()
    with pytest.raises(ValueError, match="has been read"):
        inverse.add(torch.ones(10))
    with pytest.raises(ValueError, match="positive"):
        FisherInverse(10, 4, 0.0, 2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e12])
def test_a_block_that_cannot_be_inverted_is_an_error_with_a_way_out(bad):
    inverse = FisherInverse(8, 4, DAMP, 1)
    inverse.add(torch.full((8,), bad))
    with pytest.raises(StageError, match="Raise method.damp"):
        inverse.diag()


# ---- scores and updates


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
