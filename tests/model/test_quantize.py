"""Fake quantisation against plain float64 arithmetic, finite differences and integer products."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tiny_bert import CONFIG, Toy, batches_of, encoder, model_of
from torch import Tensor, nn
from transformers.models.bert.modeling_bert import eager_attention_forward

from obert_sweeps.model.mobilebert import MobileBert
from obert_sweeps.model.quantize import (
    AVERAGING,
    FakeQuantize,
    QuantEmbedding,
    QuantLinear,
    QuantMatMul,
    attention,
    calibrate,
    is_quantized,
    observe,
    quantize,
    ranges,
)
from obert_sweeps.model.quantized_files import load_ranges, plain_weights
from obert_sweeps.schema import StageError
from obert_sweeps.sparsity.mask import Masks
from obert_sweeps.train.forward import inputs

KINDS = {
    "activation": (dict(signed=False, symmetric=False), 0, 255),
    "weight": (dict(signed=True, symmetric=True), -127, 127),
    "table": (dict(signed=True, symmetric=False), -128, 127),
}


def seen(kind: str, x: Tensor) -> FakeQuantize:
    place = FakeQuantize(**KINDS[kind][0], averaging=1.0)
    place(x)
    return place.eval()


def by_hand(kind: str, low: float, high: float, x: np.ndarray) -> tuple[np.ndarray, float]:
    """Quantised and back, and the scale, in float64."""
    _, lowest, highest = KINDS[kind]
    if kind == "weight":
        scale, zero = max(-low, high) / 127, 0.0
    else:
        scale = (high - low) / (highest - lowest)
        zero = lowest - np.round(low / scale)
    whole = np.clip(np.round(x / scale + zero), lowest, highest)
    return (whole - zero) * scale, scale


@pytest.mark.parametrize("kind", KINDS)
@given(
    low=st.floats(-50, 0, width=32), high=st.floats(0.125, 50, width=32), seed=st.integers(0, 999)
)
def test_values_are_those_of_plain_arithmetic(
    kind: str, low: float, high: float, seed: int
) -> None:
    steps_below = -low / ((high - low) / 255)
    assume(abs(steps_below % 1 - 0.5) > 1e-3)  # else float32 may choose the next zero point
    spread = np.random.default_rng(seed).uniform(2 * low - 1, 2 * high, 64).astype(np.float32)
    place = seen(kind, torch.tensor([low, high]))
    expected, scale = by_hand(kind, low, high, spread.astype(np.float64))
    found = place(torch.from_numpy(spread)).double().numpy()
    steps = np.abs(found - expected) / scale
    # float32 may round the other way within a hair of a border between two steps.
    ratio = spread.astype(np.float64) / scale
    border = np.abs(ratio - np.floor(ratio) - 0.5) < 1e-3
    assert (steps[~border] < 1e-3).all()
    assert (steps < 1.001).all()


@pytest.mark.parametrize("kind", KINDS)
@given(low=st.floats(-50, 50, width=32), high=st.floats(-50, 50, width=32))
def test_zero_stays_exactly_zero(kind: str, low: float, high: float) -> None:
    place = seen(kind, torch.tensor([low, high]))
    assert float(place(torch.zeros(1))) == 0.0
    scale, zero_point = place.scale_and_zero_point()
    assert float(scale) > 0
    assert int(place.integers(torch.zeros(1))) == int(zero_point)
    assert (place.low, place.high) == (min(low, high, 0), max(low, high, 0))


def test_the_gradient_is_that_of_clipping() -> None:
    """Straight through: what finite differences give for x clipped to the range."""
    place = seen("activation", torch.tensor([-1.0, 3.0]))
    x = torch.linspace(-2, 4, 41, dtype=torch.float32).requires_grad_()
    (place(x) * torch.arange(41)).sum().backward()
    at, step = x.detach().double().numpy(), 1e-6
    slope = (np.clip(at + step, -1, 3) - np.clip(at - step, -1, 3)) / (2 * step)
    inside = (np.abs(at + 1) > 0.05) & (np.abs(at - 3) > 0.05)  # the range's ends lie on the grid
    np.testing.assert_allclose(x.grad.numpy()[inside], (slope * np.arange(41))[inside], atol=1e-6)


def test_ranges_follow_training_data_alone_and_can_be_frozen() -> None:
    place = FakeQuantize(signed=False, symmetric=False, averaging=0.25)
    assert place.low.isnan()
    generator = np.random.default_rng(0)
    batches = [generator.normal(size=32).astype(np.float32) for _ in range(6)]
    low = high = None
    for batch in batches[:4]:
        place(torch.from_numpy(batch))
        new = min(batch.min(), 0), max(batch.max(), 0)
        low = new[0] if low is None else low + 0.25 * (new[0] - low)
        high = new[1] if high is None else high + 0.25 * (new[1] - high)
    np.testing.assert_allclose([float(place.low), float(place.high)], [low, high], rtol=1e-6)
    place.eval()(100 * torch.from_numpy(batches[4]))
    place.train().observing = False
    place(100 * torch.from_numpy(batches[5]))
    np.testing.assert_allclose([float(place.low), float(place.high)], [low, high], rtol=1e-6)


@given(parts=st.lists(st.lists(st.floats(-9, 9), min_size=1), min_size=1, max_size=4))
def test_a_batch_in_parts_moves_the_range_once(parts: list[list[float]]) -> None:
    def place() -> FakeQuantize:
        made = FakeQuantize(signed=False, symmetric=False, averaging=0.25)
        made(torch.tensor([-1.0, 2.0]))
        return made

    whole, cut = place(), place()
    whole(torch.tensor([x for part in parts for x in part]))
    cut.begin_batch(again=False)
    cut(torch.tensor([100.0]))  # a try that fails
    cut.begin_batch(again=True)
    for part in parts:
        cut(torch.tensor(part))
    assert (cut.low, cut.high) == (whole.low, whole.high)


def test_what_has_seen_nothing_gives_no_integers() -> None:
    place = FakeQuantize(signed=True, symmetric=True)
    assert place.eval()(torch.ones(3)).isnan().all()
    with pytest.raises(StageError, match="has seen no data"):
        place.integers(torch.ones(3))


def test_a_linear_layer_is_a_product_of_integers() -> None:
    torch.manual_seed(0)
    layer = QuantLinear(nn.Linear(24, 8))
    x = torch.randn(5, 24)
    layer(x)
    layer.eval()
    left, right = (
        layer.input_range.integers(x).numpy(),
        layer.weight_range.integers(layer.weight).numpy(),
    )
    assert (left.dtype, right.dtype) == (np.uint8, np.int8)
    (scale, zero), (other, none) = (
        place.scale_and_zero_point() for place in (layer.input_range, layer.weight_range)
    )
    assert int(none) == 0
    total = (left.astype(np.int64) - int(zero)) @ right.astype(np.int64).T
    expected = total * float(scale) * float(other) + layer.bias.detach().numpy()
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_a_product_of_activations_is_one_of_unsigned_and_signed_integers() -> None:
    """sparseml's QATMatMul: left UINT8 asymmetric, right INT8 symmetric."""
    torch.manual_seed(0)
    product = QuantMatMul()
    left, right = torch.rand(3, 5, 7) - 0.2, torch.randn(3, 7, 4)
    product(left, right)
    product.eval()
    places = (product.left_range, product.right_range)
    scale, zero = product.left_range.scale_and_zero_point()
    reach = float(right.abs().max())
    assert [p.integers(x).dtype for p, x in zip(places, (left, right), strict=True)] == [
        torch.uint8,
        torch.int8,
    ]
    whole = np.rint(left.double().numpy() / float(scale))  # as many steps as the range has
    other = np.rint(right.double().numpy() * 127 / reach)
    expected = (whole @ other) * float(scale) * reach / 127
    assert float(scale) == pytest.approx(float(left.max() - left.min()) / 255)
    assert 0 < int(zero) < 255
    np.testing.assert_allclose(product(left, right).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_ranges_of_weights_follow_them_at_once_and_tables_are_asymmetric() -> None:
    linear, table = QuantLinear(nn.Linear(6, 4)), QuantEmbedding(nn.Embedding(9, 4))
    for factor in (1.0, 0.5):
        with torch.no_grad():
            linear.weight.mul_(factor)
            table.weight.copy_(factor * torch.linspace(-1, 3, 36).view(9, 4))
        linear(torch.randn(2, 6))
        some = torch.tensor([3, 4, 5])  # the range is the whole table's
        off = (table(some) - table.weight[some]).detach().abs()
        place = linear.weight_range
        assert (place.low, place.high) == (linear.weight.min(), linear.weight.max())
        step = factor * 4 / 255  # a symmetric range would take steps of 6 / 254
        assert 0.4 * step < float(off.max()) <= 0.501 * step


def test_activations_are_averaged_as_torchs_own_observer_does() -> None:
    from torch.ao.quantization import MovingAverageMinMaxObserver

    parameters = inspect.signature(MovingAverageMinMaxObserver).parameters
    assert parameters["averaging_constant"].default == AVERAGING
    assert QuantLinear(nn.Linear(2, 2)).input_range.averaging == AVERAGING


def test_attention_is_eager_attention_but_for_the_products() -> None:
    torch.manual_seed(0)
    module: Any = nn.Module()
    module.scores_product = module.context_product = torch.matmul
    query, key, value = torch.randn(3, 2, 4, 5, 8)
    mask = torch.randn(2, 1, 1, 5)
    found = attention(module, query, key, value, mask, scaling=0.3)
    expected = eager_attention_forward(module, query, key, value, mask, scaling=0.3)
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted)


def tiny_mobilebert() -> MobileBert:
    sizes = {"intra_bottleneck_size": 16, "embedding_size": 16, "num_feedforward_networks": 2}
    return MobileBert(name="tiny", from_config=True, config={**CONFIG, **sizes})


def batch_of(head: str = "span") -> dict[str, Tensor]:
    return inputs(batches_of(Toy(head=head))(0))


@pytest.mark.parametrize("leaf", [encoder, tiny_mobilebert])
@pytest.mark.parametrize("head", ["span", "classification"])
def test_all_layers_but_normalisation_are_quantised(leaf: Any, head: str) -> None:
    torch.manual_seed(0)
    model = leaf().build(head, 2)
    parameters = dict(model.named_parameters())
    linears = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    tables = [n for n, m in model.named_modules() if isinstance(m, nn.Embedding)]
    batch = batch_of(head)
    plain = model.eval()(**batch)[0].detach()
    quantize(model)
    assert all(model.get_parameter(name) is p for name, p in parameters.items())
    assert all(isinstance(model.get_submodule(name), QuantLinear) for name in linears)
    assert all(isinstance(model.get_submodule(name), QuantEmbedding) for name in tables)
    products = [m for m in model.modules() if isinstance(m, QuantMatMul)]
    assert len(products) == 2 * model.config.num_hidden_layers
    places = 2 * len(linears) + len(tables) + 2 * len(products)
    assert sum(1 for _ in ranges(model)) == places
    calibrate(model, [batch])
    assert not model.training and not any(p.low.isnan() for _, p in ranges(model))
    found = model(**batch)[0].detach()
    assert 0 < float((found - plain).norm() / plain.norm()) < 0.2
    assert set(leaf().prunable(model)) <= set(linears)


def test_a_model_is_quantised_once_and_not_with_a_language_model_head() -> None:
    model = model_of(Toy(head="span"))
    quantize(model)
    with pytest.raises(StageError, match="quantised already"):
        quantize(model)
    with pytest.raises(StageError, match="language-modelling head"):
        quantize(model_of(Toy(head="mlm")))


def test_training_keeps_pruned_weights_at_zero_and_reaches_all_others() -> None:
    model = model_of(Toy(head="span"))
    layers = encoder().prunable(model)
    quantize(model)
    layers = {name: model.get_submodule(name) for name in layers}
    keep = {n: torch.rand_like(layer.weight) > 0.5 for n, layer in layers.items()}
    masks = Masks(layers, keep)
    masks.apply()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    batch = batch_of()
    for _ in range(3):
        optimizer.zero_grad()
        outputs = model.train()(**batch)
        (outputs.start_logits.square().mean() + outputs.end_logits.square().mean()).backward()
        optimizer.step()
        masks.apply()
    masks.check()
    for name, layer in layers.items():
        imitated = layer.weight_range.imitate(layer.weight)
        assert not imitated[~keep[name]].any()
    # The key's bias moves all scores of a row alike: softmax does not see it.
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert set(before) - moved <= {n for n in before if n.endswith("self.key.bias")}


def test_frozen_ranges_stay_in_training() -> None:
    model = model_of(Toy(head="span"))
    quantize(model)
    batch = batch_of()
    model.train()(**batch)
    observe(model, False)
    kept = {name: (float(p.low), float(p.high)) for name, p in ranges(model)}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    model(**batch)
    assert kept == {name: (float(p.low), float(p.high)) for name, p in ranges(model)}


def test_a_saved_model_loads_in_float_and_with_its_ranges(tmp_path: Path) -> None:
    model = model_of(Toy(head="span"))
    layers = encoder().prunable(model)
    keep = {n: torch.rand_like(layer.weight) > 0.5 for n, layer in layers.items()}
    Masks(layers, keep).apply()
    quantize(model)
    batch = batch_of()
    calibrate(model, [batch])
    model.save_pretrained(tmp_path / "whole")
    again = encoder().build("span", 2, folder=str(tmp_path / "whole"), new_head=False)
    assert not is_quantized(again)
    quantize(again)
    load_ranges(again, tmp_path / "whole")
    assert torch.equal(again.eval()(**batch)[0], model(**batch)[0])

    model.save_pretrained(tmp_path / "plain", state_dict=plain_weights(model))
    plain = encoder().build("span", 2, folder=str(tmp_path / "plain"), new_head=False)
    for name, layer in encoder().prunable(plain).items():
        scale = model.get_submodule(name).weight_range.scale_and_zero_point()[0]
        steps = layer.weight.detach() / scale.detach()
        assert float((steps - steps.round()).abs().max()) < 1e-4
        assert not layer.weight[~keep[name]].any()
    with pytest.raises(StageError, match="has no range for"):
        load_ranges(again, tmp_path / "plain")
