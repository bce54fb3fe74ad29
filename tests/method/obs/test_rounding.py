"""Float32 products where they are safe and nowhere else, by what they do to the inverse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_fisher import DAMP, built, dense_blocks, gradients, relative_error, worst_error
from hypothesis import example, given, settings
from hypothesis import strategies as st

from obert_sweeps.method.obs.fisher import FisherInverse

BLOCK = 16
ENOUGH = 20 * BLOCK  # gradients after which blocks have been measured, with as many to come


def float32_sums(grads: torch.Tensor, block: int, m: int) -> np.ndarray:
    """Blocks of the inverse from float32 sums, all else in float64."""
    parts = grads.unflatten(1, (-1, block)).transpose(0, 1)
    sums = sum(part.mT @ part for part in parts.split(16, dim=1))
    eye = DAMP * torch.eye(block, dtype=torch.float64)
    return torch.linalg.inv(sums.double() / m + eye).numpy()


@pytest.mark.parametrize(("kind", "m"), [("low rank", ENOUGH), ("full", BLOCK - 4)])
def test_where_float32_is_wrong_it_is_not_used(kind, m):
    grads = gradients(kind, m, 10 * BLOCK, 1.0)
    expected = dense_blocks(grads, BLOCK, DAMP, m)
    alone = float32_sums(grads, BLOCK, m)
    assert min(relative_error(a, b) for a, b in zip(alone, expected, strict=True)) > 1e-2
    inverse = built(grads, BLOCK, m)
    assert inverse.rounding.exact.all() and not inverse.rounding.bound.any()
    assert worst_error(inverse.blocks(), expected) < 1e-5


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0, 1e3])
@pytest.mark.parametrize("kind", ["full", "dead"])
def test_blocks_that_gradients_span_come_to_float32(kind, scale):
    """Inputs that never fire, as pruned ones do not, are no obstacle at any scale."""
    grads = gradients(kind, ENOUGH, 10 * BLOCK, scale)
    inverse = built(grads, BLOCK, ENOUGH)
    assert not inverse.rounding.exact.any() and inverse.rounding.bound.all()
    assert worst_error(inverse.blocks(), dense_blocks(grads, BLOCK, DAMP, ENOUGH)) < 1e-5


def test_inputs_that_fire_differently_are_no_obstacle():
    grads = gradients("full", ENOUGH, 10 * BLOCK, 1.0)
    grads *= torch.logspace(-3, 3, BLOCK).repeat(10)
    inverse = built(grads, BLOCK, ENOUGH)
    assert not inverse.rounding.exact.any()
    assert worst_error(inverse.blocks(), dense_blocks(grads, BLOCK, DAMP, ENOUGH)) < 1e-4


def test_an_input_that_wakes_late_is_noticed():
    """It was silent when its block was measured, and repeats another when it fires."""
    grads = gradients("full", ENOUGH, 10 * BLOCK, 1.0)
    grads[: ENOUGH // 2, 3::BLOCK] = 0.0
    grads[ENOUGH // 2 :, 3::BLOCK] = grads[ENOUGH // 2 :, 4::BLOCK]
    half = built(grads[: ENOUGH // 2], BLOCK, ENOUGH)
    assert not half.rounding.exact.any()
    inverse = built(grads, BLOCK, ENOUGH)
    assert inverse.rounding.exact.all()
    assert worst_error(inverse.blocks(), dense_blocks(grads, BLOCK, DAMP, ENOUGH)) < 1e-4


def test_gradients_that_grow_are_noticed():
    grads = gradients("full", ENOUGH, 10 * BLOCK, 1e-3)
    late = gradients("low rank", ENOUGH, 10 * BLOCK, 1e2)
    grads[ENOUGH // 2 :] = late[ENOUGH // 2 :]
    inverse = built(grads, BLOCK, ENOUGH)
    assert inverse.rounding.exact.all()
    assert worst_error(inverse.blocks(), dense_blocks(grads, BLOCK, DAMP, ENOUGH)) < 1e-4


@settings(max_examples=60, deadline=None)
@given(
    decay=st.floats(0, 8),
    spread=st.floats(0, 4),
    exponent=st.floats(-4, 1),
    growth=st.floats(-3, 3),
    at_once=st.sampled_from([1, 7, 16, 32, 64]),
    m=st.sampled_from([40, 150, 300]),
    seed=st.integers(0, 999),
)
@example(decay=0.0, spread=0.0, exponent=0.0, growth=0.0, at_once=16, m=300, seed=0)
@example(decay=1.0, spread=2.0, exponent=-1.0, growth=0.0, at_once=16, m=300, seed=0)
def test_the_bound_holds_for_any_spectrum(decay, spread, exponent, growth, at_once, m, seed):
    """decay: decades between a block's directions; spread: between its inputs; growth: in time."""
    rng = np.random.default_rng(seed)
    count = 6
    g = rng.standard_normal((m, count, BLOCK)) * np.logspace(0, -decay, BLOCK)
    turn = np.linalg.qr(rng.standard_normal((count, BLOCK, BLOCK)))[0]
    g = np.einsum("kbi,bij->kbj", g, turn) * 10.0 ** (spread * (rng.random((count, BLOCK)) - 0.5))
    g *= 10.0 ** (exponent + growth * np.linspace(0, 1, m))[:, None, None]
    grads = torch.tensor(g.reshape(m, -1), dtype=torch.float32)
    inverse = built(grads, BLOCK, m, at_once)
    bound = inverse.rounding.bound.numpy()
    assert bound.max() <= inverse.rounding.tolerance
    got, expected = inverse.blocks().numpy(), dense_blocks(grads, BLOCK, DAMP, m)
    for mine, theirs, most in zip(got, expected, bound, strict=True):
        error = relative_error(mine, theirs)
        condition = np.linalg.cond(theirs)
        assert error <= most + 1e-13 + 1e-14 * condition  # float64 has its own, far below
        assert error <= 1e-4


def test_without_tolerance_all_is_float64():
    grads = gradients("full", ENOUGH, 5 * BLOCK, 1e-3)
    inverse = FisherInverse(5 * BLOCK, BLOCK, DAMP, ENOUGH, tolerance=0)
    inverse.add(grads)
    assert not inverse.rounding.bound.any()
    assert worst_error(inverse.blocks(), dense_blocks(grads, BLOCK, DAMP, ENOUGH)) < 1e-12


def test_float64_gradients_are_not_narrowed():
    grads = gradients("full", ENOUGH, 5 * BLOCK, 1e-3).double() + 1e-13
    inverse = built(grads, BLOCK, ENOUGH)
    assert worst_error(inverse.blocks(), dense_blocks(grads, BLOCK, DAMP, ENOUGH)) < 1e-12


@pytest.fixture
def bfloat16_allowed():
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    yield
    matmul.fp32_precision = before


def test_where_products_are_less_than_float32_they_are_not_used(bfloat16_allowed):
    grads = gradients("full", ENOUGH, 5 * BLOCK, 1e-3)
    inverse = built(grads, BLOCK, ENOUGH)
    assert not inverse.rounding.bound.any()
    assert worst_error(inverse.blocks(), dense_blocks(grads, BLOCK, DAMP, ENOUGH)) < 1e-12
