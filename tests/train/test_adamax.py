"""PLATON's Adamax against the same arithmetic in float64, weight by weight."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from obert_sweeps.train.adamax import Adamax


@given(
    seed=st.integers(0, 10**6),
    decay=st.sampled_from([0.0, 0.01, 0.5]),
    scale=st.sampled_from([1e-8, 1e-6, 1e-3, 1.0]),
    steps=st.integers(1, 5),
)
def test_it_is_its_formula(seed: int, decay: float, scale: float, steps: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    shapes = [(3, 2), (4,), (1,)]
    params = [torch.randn(s, generator=draw, dtype=torch.float64) for s in shapes]
    expected = [p.clone() for p in params]
    average = [torch.zeros_like(p) for p in params]
    largest = [torch.zeros_like(p) for p in params]
    for parameter in params:
        parameter.requires_grad_()
    optimizer = Adamax([{"params": params, "weight_decay": decay}], lr=0.0)
    for step in range(steps):
        rate = 0.1 / (step + 1)
        optimizer.param_groups[0]["lr"] = rate
        for i, parameter in enumerate(params):
            grad = scale * torch.randn(shapes[i], generator=draw, dtype=torch.float64)
            parameter.grad = grad
            average[i] = 0.9 * average[i] + 0.1 * grad
            largest[i] = torch.maximum(0.999 * largest[i], grad.abs() + 1e-6)
            change = average[i] / (largest[i] + 1e-6) + decay * expected[i]
            expected[i] = expected[i] - rate * change
        optimizer.step()
    for parameter, wanted in zip(params, expected, strict=True):
        torch.testing.assert_close(parameter.detach(), wanted, rtol=1e-10, atol=1e-12)


def test_it_goes_on_from_its_state_bit_for_bit() -> None:
    def stepped(optimizer: Adamax, parameter: torch.nn.Parameter, count: int) -> None:
        for _ in range(count):
            parameter.grad = parameter.detach().sin()
            optimizer.step()

    whole = torch.nn.Parameter(torch.linspace(-1, 1, 7))
    stepped(Adamax([whole], lr=0.01, weight_decay=0.1), whole, 6)

    part = torch.nn.Parameter(torch.linspace(-1, 1, 7))
    first = Adamax([part], lr=0.01, weight_decay=0.1)
    stepped(first, part, 2)
    second = Adamax([part], lr=0.01, weight_decay=0.1)
    second.load_state_dict(first.state_dict())
    stepped(second, part, 4)
    assert torch.equal(whole, part)


def test_what_has_no_gradient_stays() -> None:
    still = torch.nn.Parameter(torch.ones(2))
    Adamax([still], lr=1.0, weight_decay=0.5).step()
    assert torch.equal(still, torch.ones(2))
    with pytest.raises(ValueError, match="closure"):
        Adamax([still], lr=1.0).step(lambda: 0.0)
