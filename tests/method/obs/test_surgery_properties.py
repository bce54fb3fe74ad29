"""Costs and updates on any run of Fisher blocks, against dense float64 and brute force."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_sweeps.method.obs import surgery
from obert_sweeps.method.obs.fisher import FisherInverse
from obert_sweeps.method.obs.scratch import Scratch
from obert_sweeps.schema import StageError

DAMP = 1e-3
SINGLE, BLOCK, PAIRS = [(0,)], [(0, 1, 2, 3)], list(combinations(range(4), 2))
PATTERNS = {"unstructured": (1, SINGLE), "block4": (4, BLOCK), "2of4": (4, PAIRS)}


@dataclass
class Problem:
    """A weight, some of it pruned already, and the Fisher that its masked gradients give."""

    weight: np.ndarray  # float32 (d,)
    alive: np.ndarray  # bool (d,)
    fisher: np.ndarray  # float64 (d, d), block-diagonal and damped
    inverse: FisherInverse

    @property
    def exact(self) -> np.ndarray:
        return np.linalg.inv(self.fisher)

    def rise(self, updated: np.ndarray) -> float:
        """Of the quadratic model of the loss: 1/2 dw F dw."""
        change = updated - self.weight.astype(np.float64)
        return float(0.5 * change @ self.fisher @ change)

    def row(self) -> torch.Tensor:
        return torch.tensor(self.weight).view(1, -1)


def problem(seed: int, d: int, block_size: int, m: int, pruned: float) -> Problem:
    rng = np.random.default_rng(seed)
    alive = rng.random(d) >= pruned
    weight = (rng.standard_normal(d) * alive).astype(np.float32)
    mix = np.eye(d) + 0.3 * rng.standard_normal((d, d))
    grads = ((rng.standard_normal((m, d)) @ mix) * alive).astype(np.float32)
    inverse = FisherInverse(d, block_size, DAMP, m)
    inverse.add(torch.tensor(grads))
    blocks = np.arange(d) // block_size
    exact = grads.astype(np.float64)
    fisher = exact.T @ exact / m * (blocks[:, None] == blocks) + DAMP * np.eye(d)
    return Problem(weight, alive, fisher, inverse)


problems = st.builds(
    lambda seed, groups, block, m, pruned: problem(seed, 4 * groups, 4 * block, m, pruned),
    seed=st.integers(0, 9999),
    groups=st.integers(1, 14),
    block=st.integers(1, 6),
    m=st.integers(1, 80),
    pruned=st.sampled_from([0.0, 0.3, 0.9]),
)


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=25)
@given(one=problems)
def test_a_cost_is_the_loss_rise_of_the_update_and_no_other_is_cheaper(
    pattern: str, one: Problem
) -> None:
    """For each candidate set of each group, if it went alone; the update is the least there is."""
    size, candidates = PATTERNS[pattern]
    d = len(one.weight)
    costs = surgery.costs(one.inverse, one.row(), size, candidates).view(-1, len(candidates))
    rng = np.random.default_rng(d)
    for group in rng.choice(d // size, min(3, d // size), replace=False):
        for number, candidate in enumerate(candidates):
            q = [group * size + i for i in candidate]
            gone = torch.zeros(1, d, dtype=torch.bool)
            gone[0, q] = True
            updated = surgery.compensated(one.inverse, one.row(), gone, size)[0].double().numpy()
            jointly = surgery.jointly_compensated(one.inverse, one.row(), gone)[0].double().numpy()
            assert not updated[q].any() and not jointly[q].any()
            scale = np.abs(updated).max() + 1e-6
            np.testing.assert_allclose(updated / scale, jointly / scale, atol=1e-5)
            rise = float(costs[group, number])
            assert one.rise(updated) == pytest.approx(rise, rel=1e-3, abs=1e-7)
            other = updated + np.where(gone[0], 0.0, 1e-2 * rng.standard_normal(d))
            assert one.rise(other) > rise * (1 - 1e-3) - 1e-7


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=25)
@given(one=problems, share=st.floats(0.1, 0.9))
def test_updates_of_many_sets_at_once_are_dense_algebra(
    pattern: str, one: Problem, share: float
) -> None:
    size, candidates = PATTERNS[pattern]
    d, w, inverse = len(one.weight), one.weight.astype(np.float64), one.exact
    rng = np.random.default_rng(d)
    gone, v = np.zeros(d, dtype=bool), np.zeros(d)
    for group in range(d // size):
        if rng.random() < share:
            chosen = candidates[rng.integers(len(candidates))]
            q = [g for i in chosen if one.alive[g := group * size + i]]
            gone[q] = True
            v[q] = np.linalg.solve(inverse[np.ix_(q, q)], w[q])
    simultaneous, joint = w - inverse @ v, w.copy()
    if gone.any():
        joint -= inverse[:, gone] @ np.linalg.solve(inverse[np.ix_(gone, gone)], w[gone])
    simultaneous[gone] = joint[gone] = 0.0
    pruned = torch.tensor(gone).view(1, d)
    rises = []
    for got, expected in (
        (surgery.compensated(one.inverse, one.row(), pruned, size), simultaneous),
        (surgery.jointly_compensated(one.inverse, one.row(), pruned), joint),
    ):
        assert got.dtype == torch.float32 and got.shape == (1, d)
        assert not got[0, torch.tensor(gone | ~one.alive)].any()  # old zeros do not move
        scale = np.abs(expected).max() + 1e-6
        np.testing.assert_allclose(got[0].numpy() / scale, expected / scale, atol=1e-4)
        rises.append(one.rise(got[0].double().numpy()))
    assert rises[1] <= rises[0] * (1 + 1e-3) + 1e-7


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=20)
@given(one=problems, seed=st.integers(0, 99), data=st.data())
def test_a_run_of_blocks_is_that_part_of_the_layer(
    pattern: str, one: Problem, seed: int, data: Any
) -> None:
    """Cut at block boundaries, the parts' costs and updates are the layer's."""
    size, candidates = PATTERNS[pattern]
    d, block_size, m = len(one.weight), one.inverse.block_size, one.inverse.num_grads
    rng = np.random.default_rng(seed)
    grads = torch.tensor(rng.standard_normal((m, d)) * one.alive).float()
    edges = [0, *range(block_size, d, block_size), d]
    cut = data.draw(st.sampled_from(edges))
    gone = torch.tensor(rng.random(d) < 0.4)

    def of(begin: int, end: int) -> list[torch.Tensor]:
        inverse = FisherInverse(end - begin, block_size, DAMP, m)
        inverse.add(grads[:, begin:end])
        weight, pruned = one.row()[:, begin:end], gone[None, begin:end]
        return [
            surgery.costs(inverse, weight, size, candidates),
            surgery.compensated(inverse, weight, pruned, size),
            surgery.jointly_compensated(inverse, weight, pruned),
        ]

    parts = [of(begin, end) for begin, end in ((0, cut), (cut, d)) if end > begin]
    for whole, *cuts in zip(of(0, d), *parts, strict=True):
        torch.testing.assert_close(torch.cat(cuts, dim=1), whole, rtol=1e-5, atol=1e-6)


def test_a_layer_and_its_flattened_weight_have_the_same_costs() -> None:
    one = problem(3, 48, 12, 30, 0.0)
    for size, candidates in PATTERNS.values():
        flat = surgery.costs(one.inverse, one.row(), size, candidates)
        shaped = surgery.costs(one.inverse, one.row().view(4, 12), size, candidates)
        assert shaped.shape[:2] == (4, 12 // size) and torch.equal(shaped.flatten(), flat.flatten())


def test_an_inverse_kept_on_disk_is_the_same_to_the_bit(tmp_path: Any) -> None:
    ones = [problem(seed, d, 12, 20, 0.2) for seed, d in ((0, 61), (1, 12), (2, 100))]
    with Scratch(tmp_path, 1) as scratch:
        stored = [scratch.keep(one.inverse) for one in ones]
        for one, held in zip(ones, stored, strict=True):
            count = one.inverse.num_blocks
            assert torch.equal(held.blocks(0, count), one.inverse.blocks(0, count))
            assert torch.equal(held.blocks(count - 1, count), one.inverse.blocks(count - 1, count))
            gone = torch.arange(len(one.weight)).view(1, -1) % 3 == 0
            for update in (
                lambda i, w, g: surgery.compensated(i, w, g, 1),
                surgery.jointly_compensated,
            ):
                assert torch.equal(
                    update(held, one.row(), gone), update(one.inverse, one.row(), gone)
                )
        assert list(tmp_path.iterdir()) == []  # the file has no name: it goes with the process


def test_groups_that_a_fisher_block_cuts_in_two_are_refused() -> None:
    one = problem(0, 12, 6, 10, 0.0)
    gone = torch.zeros(1, 12, dtype=torch.bool)
    for work in (
        lambda: surgery.costs(one.inverse, one.row(), 4, PAIRS),
        lambda: surgery.compensated(one.inverse, one.row(), gone, 4),
    ):
        with pytest.raises(ValueError, match="do not divide"):
            work()


def test_a_joint_system_without_solution_is_an_error_with_a_way_out() -> None:
    class Singular:
        block_size = 4

        def chunks(self) -> Any:
            return iter([(0, 1)])

        def blocks(self, first: int, last: int) -> torch.Tensor:
            return torch.ones(1, 4, 4, dtype=torch.float64)

    with pytest.raises(StageError, match="method.update=simultaneous"):
        surgery.jointly_compensated(
            Singular(), torch.ones(1, 4), torch.ones(1, 4, dtype=torch.bool)
        )
