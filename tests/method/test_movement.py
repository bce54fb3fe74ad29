"""Movement pruning against a replay in NumPy, with gradients by hand, and against sorting."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from gated_layers import Layers, draw, top
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from obert_sweeps.method.movement import Movement
from obert_sweeps.schema import RequestError

LEVELS = {2: 0.3, 4: 0.5, 5: 0.65, 6: 0.7, 9: 0.7}  # optimiser step -> sparsity; 9 is the last
STEPS, LR, SCORE_LR = 12, 0.2, 0.05


def data() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    x = generator.normal(size=(16, 12))
    return x, np.stack([x[:, :3].sum(1), x[:, 3] * 2], 1)


class Replay:
    """y = (M V) tanh((M U) x) trained by SGD; every gradient is written out."""

    def __init__(self, first: np.ndarray, second: np.ndarray) -> None:
        self.weights = [first.copy(), second.copy()]
        self.moved = [np.zeros_like(first), np.zeros_like(second)]  # sum of dL/d(g W) * W
        self.level = 0.0

    def gates(self) -> list[np.ndarray]:
        scores = [-SCORE_LR * moved for moved in self.moved]
        return [top(s, s.size - round(self.level * s.size)) for s in scores]

    def step(self, gates: list[np.ndarray]) -> float:
        x, y = data()
        first, second = (w * g for w, g in zip(self.weights, gates, strict=True))
        hidden = np.tanh(x @ first.T)
        off = hidden @ second.T - y
        back = 2 * off / off.size
        slopes = [
            ((back @ second) * (1 - hidden**2)).T @ x,
            back.T @ hidden,
        ]
        for i, slope in enumerate(slopes):
            self.moved[i] += slope * self.weights[i]
            self.weights[i] -= LR * slope * gates[i]
        return float((off**2).mean())


def test_scores_are_minus_lr_times_the_movement_and_masks_are_sorted_from_them() -> None:
    torch.manual_seed(3)
    method = Movement(score_lr=SCORE_LR)
    run = Layers(method, [np.zeros((10, 12)), np.zeros((2, 10))])
    first, second = run.layers.values()
    for layer in (first, second):
        layer.bias = None  # type: ignore[assignment]
    optimizer = torch.optim.SGD([{"params": [first.weight, second.weight]}, *run.groups], lr=LR)
    replay = Replay(*run.weights())
    x, y = (torch.from_numpy(a) for a in data())
    history: list[list[np.ndarray]] = []
    for step in range(STEPS):
        if step in LEVELS:
            replay.level = LEVELS[step]
            if step == max(LEVELS):
                fixed = replay.gates()
                replay.weights = [w * g for w, g in zip(replay.weights, fixed, strict=True)]
                scores = [-SCORE_LR * moved for moved in replay.moved]
            run.prune(LEVELS[step], final=step == max(LEVELS))
        gates = replay.gates() if step < max(LEVELS) else fixed
        if step < max(LEVELS):
            for found, expected in zip(run.gates(), gates, strict=True):
                assert np.array_equal(found, expected), step
        history.append(gates)
        loss = nn.functional.mse_loss(second(torch.tanh(first(x))), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step()
        run.masks.apply()
        assert float(loss.detach()) == pytest.approx(replay.step(gates), rel=1e-10)
    for kept, expected in zip(run.kept(), fixed, strict=True):
        assert np.array_equal(kept, expected)
    for weight, expected in zip(run.weights(), replay.weights, strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-9, atol=1e-13)
        assert not weight[expected == 0].any()
    for score, expected in zip(method.scores, scores, strict=True):
        np.testing.assert_allclose(score.detach().numpy(), expected, rtol=1e-9, atol=1e-13)
    came_back = [
        (~before[i] & after[i]).any() for before, after in pairwise(history) for i in (0, 1)
    ]
    assert any(came_back), "no gate opened again"


@given(seed=st.integers(0, 2**32 - 1), level=st.floats(0.0, 0.99))
@pytest.mark.parametrize("scope", ["tensor", "global"])
@pytest.mark.parametrize("size", [1, 4])
def test_gates_and_final_masks_are_the_highest_by_sorting(
    scope: Any, size: int, seed: int, level: float
) -> None:
    scores = draw(seed, (6, 8), (3, 12))
    run = Layers(Movement(scope=scope), scores)
    groups = [score.reshape(-1, size).mean(1) for score in scores]
    pools = [np.concatenate(groups)] if scope == "global" else groups
    chosen = np.concatenate([top(pool, pool.size - round(level * pool.size)) for pool in pools])
    expected = np.split(np.repeat(chosen, size), [scores[0].size])
    name = {1: "unstructured", 4: "block4"}[size]
    run.prune(level, pattern=name)
    for gate, mask in zip(run.gates(), expected, strict=True):
        assert np.array_equal(gate.ravel(), mask)
    run.prune(level, final=True, pattern=name)
    for kept, mask in zip(run.kept(), expected, strict=True):
        assert np.array_equal(kept.ravel(), mask)


def test_two_of_four_keeps_the_best_pair_of_each_group_in_every_forward_pass() -> None:
    scores = draw(7, (5, 8), (2, 4))
    run = Layers(Movement(), scores)
    run.prune(0.5, pattern="2of4")
    for gate, score in zip(run.gates(), scores, strict=True):
        for found, four in zip(gate.reshape(-1, 4), score.reshape(-1, 4), strict=True):
            pairs = combinations(range(4), 2)
            best = max(pairs, key=lambda pair: sum(four[i] for i in pair))
            assert set(np.flatnonzero(found)) == set(best)


def test_exactly_so_many_are_kept_where_scores_are_equal() -> None:
    run = Layers(Movement(), [np.repeat([[0.0, 1.0]], 10, axis=0), np.ones((4, 5))])
    run.prune(0.7)
    assert [int(gate.sum()) for gate in run.gates()] == [6, 6]
    assert run.gates()[0][:, 0].sum() == 0  # none of the lower ones before all of the higher


def test_new_scores_mean_new_gates_and_nothing_else_does() -> None:
    method = Movement()
    run = Layers(method, draw(1, (6, 6)))
    run.prune(0.5)
    before = run.gates()[0]
    layer = run.layers["layer0"]
    layer.eval()
    assert np.array_equal(run.gates()[0], before)
    with torch.no_grad():
        method.scores[0].neg_()
    method.after_step()
    assert np.array_equal(run.gates()[0], 1 - before)


def test_the_gradient_passes_straight_through_the_choice() -> None:
    method = Movement()
    run = Layers(method, draw(2, (6, 8)))
    run.prune(0.6)
    layer, (gate,) = run.layers["layer0"], run.gates()
    effective = (layer.weight.detach() * torch.from_numpy(gate)).requires_grad_()
    x = torch.randn(5, 8, dtype=torch.float64)
    torch.sin(nn.functional.linear(x, effective, layer.bias.detach())).sum().backward()
    torch.sin(layer(x)).sum().backward()
    assert effective.grad is not None and method.scores[0].grad is not None
    torch.testing.assert_close(layer.weight.grad, effective.grad * torch.from_numpy(gate))
    expected = effective.grad * layer.weight.detach()
    torch.testing.assert_close(method.scores[0].grad, expected)


@pytest.mark.parametrize("knobs", [{"score_lr": 0.0}, {"scope": "row"}])
def test_impossible_knobs_are_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"method\."):
        Movement(**knobs)
