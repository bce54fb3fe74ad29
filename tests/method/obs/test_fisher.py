"""The inverse Fisher against dense float64 algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_fisher import (
    DAMP,
    built,
    check_inverse,
    dense_blocks,
    gradients,
    relative_error,
    worst_error,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_sweeps.method.obs import fisher
from obert_sweeps.method.obs.fisher import FisherInverse
from obert_sweeps.schema import StageError


@pytest.mark.parametrize("scale", [1e-4, 1e-3, 1e-2, 1e-1, 1.0])
@pytest.mark.parametrize(
    ("kind", "m"),
    [("full", 64), ("full", 400), ("full", 12), ("dead", 80), ("repeated", 80), ("low rank", 40)],
)
def test_blocks_equal_the_dense_inverse(kind, m, scale):
    d, block = 173, 50
    grads = gradients(kind, m, d, scale)
    inverse = built(grads, block, m)
    expected = check_inverse(inverse, grads, 1e-4, 1e-5)
    assert relative_error(inverse.blocks().numpy(), expected) < 1e-4
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


def mixed(m: int) -> torch.Tensor:
    """Blocks of 12 of all kinds beside each other: (m, 1000)."""
    kinds = ("full", "dead", "repeated", "low rank")
    parts = [gradients(kind, m, 12, 10.0 ** (1 - i % 5), i) for i in range(21) for kind in kinds]
    return torch.cat(parts, dim=1)[:, :1000].contiguous()


def test_a_block_is_the_same_however_the_layer_is_cut(monkeypatch):
    grads = mixed(160)
    whole = built(grads, 12, 160)
    exact = whole.rounding.exact
    assert exact.any() and not exact.all()  # both ways of forming products are at work
    shard = built(grads[:, 12 * 30 : 12 * 50].contiguous(), 12, 160)
    monkeypatch.setitem(fisher._WORKSPACE, "cpu", 12 * 12 * 8 * 7)
    tiles = built(grads, 12, 160)
    assert len(list(tiles.chunks())) > 10
    assert torch.equal(tiles.blocks(), whole.blocks())
    assert torch.equal(shard.blocks(), whole.blocks(30, 50))


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


def test_gradients_of_zero_change_nothing():
    grads = gradients("full", 40, 60, 1e-1)
    padded = torch.cat([grads, torch.zeros(8, 60)])
    expected = dense_blocks(grads, 10, DAMP, 40)
    assert worst_error(built(padded, 10, 40, at_once=8).blocks(), expected) < 1e-4


@pytest.mark.parametrize("k", [1, 3])
def test_gradients_are_left_as_they_were(k):
    grads = gradients("full", k, 20, 1e-2)
    before = grads.clone()
    FisherInverse(20, 8, DAMP, k).add(grads)
    assert torch.equal(grads, before)


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


@pytest.mark.parametrize(
    ("card", "largest"),
    [((7, 5), 0), ((8, 0), 128), ((8, 6), 0), ((9, 0), 128), ((10, 0), 64), ((12, 0), 0)],
)
def test_cards_with_full_float64_get_the_kernels_up_to_a_size(monkeypatch, card, largest):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: card)
    pytest.importorskip("triton", reason="Triton is made for Linux")
    taken = [b for b in range(1, 200) if fisher._kernels(torch.device("cuda"), b) is not None]
    assert taken == list(range(1, largest + 1))
