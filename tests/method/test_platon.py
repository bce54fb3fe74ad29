"""PLATON against a replay in NumPy of the weights and gradients that training went through."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from resumed import whole_and_resumed
from tiny_run import TRAINING, a_run

from obert_sweeps.method.base import PruneStep
from obert_sweeps.method.platon import Platon
from obert_sweeps.schema import PruningTimes, RequestError, StageError
from obert_sweeps.train.loop import Run, train
from obert_sweeps.train.state import State

LEVEL = 0.8
START, END, STEPS = 4, 18, 30  # five optimiser steps an epoch
GRADUAL = replace(
    TRAINING,
    epochs=6,
    optimizer="adamax",
    pruning=PruningTimes(start=0.8, end=3.6, until=6, every_steps=3),
)


@dataclass
class Choice:
    """What a pruning step chose: flat, True where a weight or bias is to be zero."""

    weights: np.ndarray
    biases: np.ndarray
    held: bool


class Recorded(Platon):
    """Keeps what training shows it, as plain float64 arrays."""

    def __init__(self, **knobs: Any) -> None:
        super().__init__(**knobs)
        self.seen: list[tuple[np.ndarray, np.ndarray]] = []  # weights, gradients after each step
        self.choices: dict[int, Choice] = {}  # after so many optimiser steps

    def after_step(self) -> None:
        grads = [p.grad for p in self.scored]
        self.seen.append((flat(self.scored), flat(grads)))
        super().after_step()

    def prune(self, step: PruneStep) -> None:
        super().prune(step)
        zero = flat(self.scored) == 0
        count = sum(layer.weight.numel() for layer in step.layers.values())
        chosen, biases, held = zero[:count], zero[count:], not step.masks.is_dense
        if held:  # a weight that may return is still zero now
            chosen, biases = flat(step.masks.keep.values()) == 0, flat([self.biases_held]) == 0
            assert zero[:count][chosen].all() and zero[count:][biases].all()
        self.choices[len(self.seen)] = Choice(chosen, biases, held)


def flat(tensors: Any) -> np.ndarray:
    return np.concatenate([t.detach().double().flatten().numpy() for t in tensors])


def finished(training: Any = GRADUAL, **knobs: Any) -> tuple[Run, State, Recorded]:
    method = Recorded(**{"window": 3, "beta2": 0.9, **knobs})
    run, state, _ = a_run(training, LEVEL, rows=40, method=method)
    state.model.double()
    method.double()
    for layer in run.layers.values():
        torch.nn.init.normal_(layer.bias, std=0.2)  # new ones are zero, which costs nothing
    assert train(run, state) is None
    return run, state, method


def scores(method: Recorded, steps: int, beta1: float, beta2: float) -> np.ndarray:
    """The published averages after so many steps, from all that was seen, in plain words."""
    window: list[np.ndarray] = [np.zeros_like(method.seen[0][0])]  # the empty step 0
    sensitivity = uncertainty = window[0]
    for t in range(1, steps + 1):
        weights, grads = method.seen[t - 1]
        if t % method.window == 0:
            mean = np.mean(window, axis=0)
            sensitivity = beta1 * sensitivity + (1 - beta1) * mean
            uncertainty = beta2 * uncertainty + (1 - beta2) * np.abs(mean - sensitivity)
            window = []
        window.append(np.abs(weights * grads))
    return sensitivity if beta2 == 1 else sensitivity * uncertainty


def level_after(steps: int) -> float:
    """One minus the published share of weights that remain."""
    if steps >= END:
        return LEVEL
    p = (steps - START) / (END - START)
    return 1 - ((1 - LEVEL) + LEVEL * (1 - p) ** 3)


@pytest.mark.parametrize("beta2", [0.9, 0.0, 1.0])
def test_averages_and_masks_are_those_of_a_replay(beta2: float) -> None:
    _, _, method = finished(beta2=beta2)
    assert list(method.choices) == [4, 6, 9, 12, 15, 18, 21, 24, 27, 29]
    for steps, choice in method.choices.items():
        expected = scores(method, steps, 0.85, beta2)
        of_weights = expected[: choice.weights.size]
        order = np.argsort(of_weights, kind="stable")
        gone = order[: round(level_after(steps) * order.size)]
        assert set(np.flatnonzero(choice.weights)) == set(gone), steps
        if gone.size:
            cut = of_weights[gone].max()
            assert np.array_equal(choice.biases, expected[choice.weights.size :] < cut), steps
        assert choice.held == (steps >= END)
    np.testing.assert_allclose(
        method.scores().numpy(), scores(method, STEPS, 0.85, beta2), rtol=1e-9, atol=0
    )
    last = method.choices[29]
    assert last.biases.any() and not last.biases.all()


def test_weights_and_biases_return_until_the_last_step_and_never_after() -> None:
    run, state, method = finished()
    for first, second in ((15, 18), (18, 21), (21, 24), (24, 27)):
        back = method.choices[first].weights & ~method.choices[second].weights
        assert back.any(), "none came back"
    after_climbing, _ = method.seen[9]  # one step after a pruning step below the target
    count = method.choices[9].weights.size
    grown = after_climbing[:count][method.choices[9].weights]
    assert (grown != 0).mean() > 0.9
    last = method.choices[29]
    weights, biases = flat(method.scored)[:count], flat(method.scored)[count:]
    assert np.array_equal(weights == 0, last.weights) and np.array_equal(biases == 0, last.biases)
    assert int(last.weights.sum()) == round(LEVEL * count)
    state.masks.check()
    assert state.masks.sparsity() == pytest.approx(LEVEL, abs=1 / count)
    for step in range(3):  # whatever trains on, they stay
        run.step(run.batches(step))
        state.masks.apply()
        after = flat(method.scored)
        assert not after[:count][last.weights].any() and not after[count:][last.biases].any()


def test_at_the_target_weights_are_zeroed_after_each_step_between_choices() -> None:
    _, _, method = finished()
    count = method.choices[18].weights.size
    for steps in (20, 23, 26):  # the step before the next choice: one update from zero
        chosen = method.choices[steps // 3 * 3].weights
        before, now = method.seen[steps - 2][0][:count], method.seen[steps - 1][0][:count]
        kept = np.abs(now - before)[~chosen].max()
        assert np.abs(now[chosen]).max() <= 2 * kept


@pytest.mark.parametrize("at", [2, 11, 20, 29])
def test_a_saved_state_goes_on_bit_for_bit(tmp_path: Path, at: int) -> None:
    def make() -> tuple[Run, State]:
        run, state, _ = a_run(GRADUAL, LEVEL, rows=40, method=Platon(window=3), dropout=0.2)
        return run, state

    whole_and_resumed(make, at, tmp_path)


def test_before_a_window_has_ended_nothing_goes_and_the_last_step_is_refused() -> None:
    method = Recorded(window=10)
    climbing = replace(TRAINING, pruning=PruningTimes(1, 2, 1 / 3))
    run, state, _ = a_run(climbing, LEVEL, method=method)
    with pytest.raises(StageError, match="10 optimiser steps, and 6 are taken"):
        train(run, state)
    assert list(method.choices) == [3, 4, 5]
    assert not any(choice.weights.any() for choice in method.choices.values())


@pytest.mark.parametrize("knobs", [{"window": 0}, {"beta1": 1.0}, {"beta2": 1.1}, {"beta2": -0.1}])
def test_impossible_knobs_are_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"method\."):
        Platon(**knobs)
