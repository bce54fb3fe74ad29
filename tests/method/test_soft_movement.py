"""Soft movement against NumPy, finite differences and the published schedule in plain words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gated_layers import Layers, check_gradient, draw, price_of, sigmoid, top

from obert_sweeps.method.soft_movement import SoftMovement
from obert_sweeps.schema import PruningTimes, RequestError
from obert_sweeps.sparsity.schedule import pruning_steps


def at(progress: float, scores: list[np.ndarray], **knobs: Any) -> Layers:
    """A run whose schedule has come to that share of its target."""
    run = Layers(SoftMovement(**knobs), scores)
    run.prune(0.9 * progress, target=0.9)
    return run


@pytest.mark.parametrize("progress", [0.2, 0.7, 1.0])
def test_gates_are_open_above_the_threshold_that_grows_with_the_level(progress: float) -> None:
    scores = draw(0, (20, 30), (10, 40))
    for gate, score in zip(at(progress, scores).gates(), scores, strict=True):
        assert np.array_equal(gate, sigmoid(score) > 0.1 * progress)


def test_before_the_climb_all_gates_are_open_and_scores_are_free() -> None:
    run = Layers(SoftMovement(), [np.full((4, 5), -40.0)])
    assert run.gates()[0].all() and run.method.penalty() is None
    run.prune(0.0, target=0.9)  # the climb begins at zero
    assert run.gates()[0].all() and run.method.penalty() is None


def test_the_highest_half_per_cent_of_each_layer_stay_open() -> None:
    scores = [score - 50 for score in draw(1, (30, 40), (10, 10))]
    low, small = at(1.0, scores).gates()
    assert np.array_equal(low, top(scores[0], 7))  # int(0.005 * 1200) + 1
    assert np.array_equal(small, top(scores[1], 1))


def test_blocks_are_compared_by_their_mean_score() -> None:
    (score,) = scores = draw(2, (12, 16))
    run = Layers(SoftMovement(), scores)
    run.prune(0.9, pattern="block4", target=0.9)
    means = score.reshape(-1, 4).mean(1)
    assert np.array_equal(run.gates()[0].reshape(-1, 4).min(1), sigmoid(means) > 0.1)
    assert np.array_equal(run.gates()[0].reshape(-1, 4).max(1), sigmoid(means) > 0.1)


def test_threshold_and_price_follow_the_published_schedule() -> None:
    """masked_run_squad.py's schedule_threshold, as reference text gives it, at every step."""
    steps, warm, initial, final = 200, 20, 1, 2  # warm-up steps, and how many of them
    epochs = PruningTimes(start=1, end=8, until=10, every_steps=1)  # 20 steps an epoch
    method = SoftMovement(penalty_weight=400)
    run = Layers(method, draw(3, (6, 8), (5, 10)))
    mean = np.mean([sigmoid(p.detach().numpy()).mean() for p in method.scores])
    prunings = pruning_steps(epochs, 0.9, 20, steps)
    for step, level in prunings.items():
        run.prune(level, target=0.9)
        if step <= initial * warm:
            tau = 0.0
        elif step > steps - final * warm:
            tau = 0.1
        else:
            left = 1 - (step - initial * warm) / (steps - (initial + final) * warm)
            tau = 0.1 - 0.1 * left**3
        assert method.threshold * method.progress == pytest.approx(tau, abs=1e-12), step
        price = method.penalty()
        expected = 400 * tau / 0.1 * mean
        assert (0.0 if price is None else float(price.detach())) == pytest.approx(
            expected, abs=1e-9
        )
    assert set(prunings) >= set(range(20, 200))


def test_the_price_s_gradient_is_that_of_finite_differences() -> None:
    method = at(0.6, draw(4, (3, 4), (2, 16)), penalty_weight=50).method
    check_gradient(lambda: price_of(method), method.scores, [(0, 0), (1, 3)], rel=1e-6)


@pytest.mark.parametrize("level", [0.3, 0.9])
def test_the_last_step_moves_the_threshold_to_the_level_for_all_layers_together(
    level: float,
) -> None:
    scores = draw(5, (20, 30), (10, 40))
    run = Layers(SoftMovement(), scores)
    stored = run.weights()
    run.prune(level, final=True, target=level)
    together = np.concatenate([score.ravel() for score in scores])
    kept = np.concatenate([kept.ravel() for kept in run.kept()])
    assert np.array_equal(kept, top(together, 1000 - round(level * 1000)))
    for weight, before, mask in zip(run.weights(), stored, run.kept(), strict=True):
        assert np.array_equal(weight, before * mask)
    own = (sigmoid(together) <= 0.1).mean()
    assert len(run.notes) == 1 and f"shuts {own:.2%} of the gates" in run.notes[0]
    assert run.method.penalty() is None


def test_the_last_step_empties_no_layer() -> None:
    low, high = draw(6, (30, 40), (30, 40))
    run = Layers(SoftMovement(), [low - 60, high])
    run.prune(0.9, final=True, target=0.9)
    first, second = run.kept()
    assert np.array_equal(first, top(low, 7))
    assert np.array_equal(second, top(high, 240 - 7))


@pytest.mark.parametrize(
    "knobs", [{"score_lr": -1.0}, {"threshold": 0.0}, {"threshold": 1.0}, {"penalty_weight": -1.0}]
)
def test_impossible_knobs_are_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"method\."):
        SoftMovement(**knobs)
