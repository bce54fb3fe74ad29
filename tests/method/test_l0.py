"""Hard concrete gates against Monte Carlo, numerical integration and their formulas in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gated_layers import Layers, check_gradient, draw, price_of, sigmoid, top

from obert_sweeps.method.l0 import L0
from obert_sweeps.schema import RequestError

SHUT = np.log(0.1 / 1.1)  # logit(1 / 12): where 1.2 s - 0.1 is zero
Z = 5.0  # standard errors a Monte Carlo mean may be off: one in two million
COPIES = 40_000


def random_gate(u: np.ndarray, score: float) -> np.ndarray:
    s = sigmoid((np.log(u) - np.log(1 - u) + score) * 1.5)
    return np.clip(1.2 * s - 0.1, 0, 1)


def evaluated(score: np.ndarray) -> np.ndarray:
    return np.clip(1.2 * sigmoid(score) - 0.1, 0, 1)


def drawn(score: float, seed: int = 0) -> np.ndarray:
    return Layers(L0(), [np.full((200, COPIES // 200), score)], seed).gates()[0]


def test_scores_start_at_gates_open_nine_times_in_ten() -> None:
    run = Layers(L0(), draw(0, (3, 4)))
    run.method.attach(run.layers, run.masks)
    score = run.method.scores[0].detach().numpy()
    assert score == pytest.approx(np.log(0.9 / 0.1), abs=1e-3)


@pytest.mark.parametrize("score", [-4.0, -2.4, -1.0, 0.0, 2.197, 4.0])
def test_the_expected_density_is_the_share_of_open_gates(score: float) -> None:
    method = L0(penalty_weight=1.0)
    Layers(method, [np.full((2, 3), score)])
    density = float(price_of(method).detach())
    # P(g > 0) = P(logit(u) > (2/3) logit(1/12) - S), with the logistic distribution's formula.
    assert density == pytest.approx(1 - sigmoid(np.array(2 / 3 * SHUT - score)), rel=1e-12)
    found = (drawn(score) > 0).mean()
    assert abs(found - density) <= Z * np.sqrt(density * (1 - density) / COPIES)


@pytest.mark.parametrize("score", [-3.0, -1.0, 0.0, 1.0, 3.0])
def test_gates_of_training_have_the_distribution_of_the_formula(score: float) -> None:
    u = (np.arange(1_000_000) + 0.5) / 1_000_000
    expected = random_gate(np.clip(u, 1e-4, 1 - 1e-4), score)
    gates = drawn(score)
    for measure in (
        lambda g: g,
        lambda g: g**2,
        lambda g: 1.0 * (g == 1),
        lambda g: 1.0 * (g < 0.5),
    ):
        error = measure(expected).std() / np.sqrt(COPIES)
        assert abs(measure(gates).mean() - measure(expected).mean()) <= Z * error + 1e-6


def test_the_price_is_a_mean_over_layers_of_means_and_has_the_gradient_of_differences() -> None:
    method = L0(penalty_weight=125.0)
    scores = draw(1, (3, 4), (8, 20))
    Layers(method, scores)
    means = [sigmoid(score - 2 / 3 * SHUT).mean() for score in scores]
    assert float(price_of(method).detach()) == pytest.approx(125 * np.mean(means), rel=1e-12)
    check_gradient(lambda: price_of(method), method.scores, [(0, 0), (2, 3)], rel=1e-5)


def test_gradients_through_the_gates_are_those_of_differences() -> None:
    method = L0()
    run = Layers(method, draw(2, (4, 6), spread=0.5))
    layer = run.layers["layer0"]
    x = torch.randn(3, 6, dtype=torch.float64)

    def loss() -> torch.Tensor:
        return torch.sin(layer(x)).sum()

    parameters = (method.scores[0], layer.weight)
    check_gradient(loss, parameters, [(0, 0), (1, 2), (3, 5)], rel=1e-5, abs=1e-9)


def test_gates_of_evaluation_follow_the_formula_and_draw_nothing() -> None:
    scores = draw(3, (30, 40))
    run = Layers(L0(), scores)
    run.layers["layer0"].eval()
    before = torch.get_rng_state()
    first, second = run.gates()[0], run.gates()[0]
    np.testing.assert_allclose(first, evaluated(scores[0]), rtol=1e-12, atol=1e-15)
    assert np.array_equal(first, second) and torch.equal(before, torch.get_rng_state())
    assert np.array_equal(first == 0, scores[0] <= SHUT)
    assert 0 < (first == 0).mean() < 1 and (first == 1).sum() > 0


def test_noise_is_of_the_step_the_layer_and_the_seed() -> None:
    zeros = [np.zeros((6, 8)), np.zeros((6, 8))]
    run, again, other = (Layers(L0(), zeros, seed) for seed in (1, 1, 2))
    first = run.gates()
    assert all(map(np.array_equal, first, run.gates()))  # micro-batches of a step share it
    assert all(map(np.array_equal, first, again.gates()))
    assert not any(map(np.allclose, first, other.gates()))  # their weights' rounding differs too
    assert not np.allclose(*first)
    run.method.after_step()
    assert not any(map(np.allclose, first, run.gates()))


def test_the_last_step_takes_the_lowest_and_leaves_the_rest_their_gates() -> None:
    scores = [score + 2 for score in draw(4, (20, 30), (10, 40))]  # fewer shut than are to go
    run = Layers(L0(), scores)
    stored, together = run.weights(), np.concatenate([score.ravel() for score in scores])
    run.prune(0.7, target=0.7)  # not the last: nothing happens
    assert run.masks.is_dense and all(map(np.array_equal, stored, run.weights()))
    run.prune(0.7, final=True, target=0.7)
    kept = np.concatenate([kept.ravel() for kept in run.kept()])
    assert np.array_equal(kept, top(together, 300))
    for weight, before, mask, score in zip(run.weights(), stored, run.kept(), scores, strict=True):
        np.testing.assert_allclose(weight, before * mask * evaluated(score), rtol=1e-12)
        assert weight[mask].all()
    own = (together <= SHUT).mean()
    assert len(run.notes) == 1 and f"{own:.2%} of the gates are shut" in run.notes[0]
    assert run.method.penalty() is None


def test_where_more_gates_are_shut_than_were_to_go_scores_are_raised_alike() -> None:
    scores = draw(5, (20, 30), (10, 40))
    run = Layers(L0(), scores)
    stored, together = run.weights(), np.concatenate([score.ravel() for score in scores])
    assert (together <= SHUT).sum() > 150
    run.prune(0.1, final=True, target=0.1)
    raised = SHUT - np.sort(together)[99]  # the highest that goes is where gates shut
    for weight, before, mask, score in zip(run.weights(), stored, run.kept(), scores, strict=True):
        assert np.array_equal(weight != 0, mask)
        np.testing.assert_allclose(
            weight[mask], (before * evaluated(score + raised))[mask], rtol=1e-9
        )
    assert sum(int((weight == 0).sum()) for weight in run.weights()) == 100


@pytest.mark.parametrize("knobs", [{"score_lr": 0.0}, {"penalty_weight": -1.0}])
def test_impossible_knobs_are_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"method\."):
        L0(**knobs)
