from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_sweeps.schema import RequestError, StageError
from obert_sweeps.sparsity.pattern import Block, DensePattern, NofM, Unstructured, pattern_named

SHAPES = {"a": (3, 8), "b": (5, 4), "c": (2, 16)}


def importances(seed: int, ties: bool = False) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = {n: torch.rand(s, generator=generator) for n, s in SHAPES.items()}
    return {n: (v * 4).round() for n, v in values.items()} if ties else values


def pruned(keep: dict[str, torch.Tensor]) -> int:
    return sum(int((~k).sum()) for k in keep.values())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.booleans(), st.sampled_from([1, 4]))
def test_global_counts_are_exact_and_the_lowest_go(seed, level, ties, size):
    pattern = Unstructured() if size == 1 else Block(size)
    values = importances(seed, ties)
    costs = {n: pattern.costs(v) for n, v in values.items()}
    keep = pattern.select(costs, level)
    groups = sum(c.numel() for c in costs.values())
    assert pruned(keep) == size * round(level * groups)
    flat = np.concatenate([c.flatten().numpy() for c in costs.values()])
    kept = np.concatenate([k.flatten().numpy()[::size] for k in keep.values()])
    order = np.sort(flat)  # the oracle: what goes has the same costs as the front of a sort
    np.testing.assert_array_equal(np.sort(flat[~kept]), order[: round(level * groups)])
    for name, mask in keep.items():
        assert mask.shape == SHAPES[name] and mask.dtype == torch.bool
        whole = mask.view(-1, size)
        assert bool((whole.all(1) | ~whole.any(1)).all())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_scope_tensor_prunes_every_layer_alike(seed, level):
    keep = Unstructured().select(importances(seed), level, scope="tensor")
    for mask in keep.values():
        assert int((~mask).sum()) == round(level * mask.numel())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.floats(0, 1), min_size=2, max_size=5), st.booleans())
def test_masks_only_grow_whatever_the_costs(seed, levels, block):
    pattern = Block(4) if block else Unstructured()
    keep = {n: torch.ones(s, dtype=torch.bool) for n, s in SHAPES.items()}
    for i, level in enumerate(sorted(levels)):
        costs = {n: pattern.costs(v) for n, v in importances(seed + i, ties=True).items()}
        new = pattern.select(costs, level, keep=keep)
        for name in SHAPES:
            assert not bool((new[name] & ~keep[name]).any())
        groups = sum(c.numel() for c in costs.values())
        assert pruned(new) == pattern.size * round(level * groups)
        keep = new


def test_ties_at_the_threshold_keep_the_first_in_index_order():
    costs = {"a": torch.tensor([[0.0, 2.0, 2.0, 3.0]]), "b": torch.tensor([[2.0, 2.0, 5.0, 6.0]])}
    keep = Unstructured().select(costs, 3 / 8)
    assert keep["a"].tolist() == [[False, True, True, True]]
    assert keep["b"].tolist() == [[False, False, True, True]]
    many = Unstructured().select({"a": torch.tensor([[0.0, *[2.0] * 30]])}, 16 / 31)["a"]
    assert many.tolist() == [[False, *[True] * 15, *[False] * 15]]  # no lot falls so


def test_a_mass_of_equal_minima_is_drawn_with_a_seed_and_repeatably():
    costs = {"a": torch.zeros(20, 20), "b": torch.ones(4, 4)}
    first, again = (Unstructured().select(costs, 100 / 416) for _ in range(2))
    other = Unstructured().select(costs, 100 / 416, seed=1)
    assert torch.equal(first["a"], again["a"]) and not torch.equal(first["a"], other["a"])
    assert pruned(first) == pruned(other) == 100 and bool(first["b"].all())
    rows = (~first["a"]).sum(1)
    assert int(rows.max()) < 20  # spread out, not the front of the index order


def test_more_pruned_already_than_asked_for_is_an_error():
    keep = {"a": torch.tensor([[False, False, True, True]])}
    with pytest.raises(StageError, match="masks only grow"):
        Unstructured().select({"a": torch.rand(1, 4)}, 0.25, keep=keep)


def test_costs_that_are_not_finite_name_the_layer():
    with pytest.raises(StageError, match="layer bad"):
        Unstructured().select(
            {"ok": torch.rand(2, 2), "bad": torch.tensor([[1.0, torch.nan]])}, 0.5
        )


def test_block_groups_run_along_the_inputs():
    weight = torch.tensor([[1.0, 1, 1, 1, 9, 9, 9, 9], [9, 9, 9, 9, 2, 2, 2, 2]])
    block = Block(4)
    assert block.costs(weight).tolist() == [[1.0, 9.0], [9.0, 2.0]]
    keep = block.select({"w": block.costs(weight)}, 0.5)["w"]
    assert keep.tolist() == [[False] * 4 + [True] * 4, [True] * 4 + [False] * 4]


def test_a_partly_pruned_block_keeps_its_zeros():
    keep = {"w": torch.tensor([[False, True, True, True, True, True, True, True]])}
    new = Block(4).select({"w": torch.tensor([[9.0, 1.0]])}, 0.5, keep=keep)["w"]
    assert new.tolist() == [[False, True, True, True, False, False, False, False]]


def test_groups_that_do_not_divide_the_inputs_name_the_layer():
    with pytest.raises(StageError, match="layer odd has 6 inputs"):
        Block(4).costs(torch.rand(2, 6), "odd")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(2, 4), (1, 4), (3, 4), (4, 8)]))
def test_n_of_m_takes_the_cheapest_subset_by_brute_force(seed, shape):
    n, m = shape
    pattern = NofM(n, m)
    generator = torch.Generator().manual_seed(seed)
    costs = torch.rand(3, 5, len(pattern.candidates), generator=generator)
    keep = pattern.select({"w": costs}, 1 - n / m)["w"]
    assert keep.shape == (3, 5 * m)
    for row in range(3):
        for group in range(5):
            best = min(range(len(pattern.candidates)), key=lambda c: float(costs[row, group, c]))
            gone = [i for i in range(m) if not keep[row, group * m + i]]
            assert gone == list(list(combinations(range(m), m - n))[best])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 0.9))
def test_n_of_m_on_top_of_a_mask_only_grows_and_adds_no_more_than_it_must(seed, level):
    generator = torch.Generator().manual_seed(seed)
    old = {"w": torch.rand(4, 8, generator=generator) > level}
    costs = torch.rand(4, 2, 6, generator=generator)
    new = NofM(2, 4).select({"w": costs}, 0.5, keep=old)["w"]
    assert not bool((new & ~old["w"]).any())
    before = (~old["w"]).view(-1, 4).sum(1)
    after = (~new).view(-1, 4).sum(1)
    assert torch.equal(after, before.clamp(min=2))


def test_n_of_m_has_one_level():
    assert not NofM(2, 4).gradual and Unstructured().gradual
    with pytest.raises(StageError, match="sparsity of 0.5 and no other"):
        NofM(2, 4).select({"w": torch.rand(1, 1, 6)}, 0.6)


def test_n_of_m_by_importance_removes_the_smallest_of_each_group():
    weight = importances(3)["c"]
    pattern = NofM(2, 4)
    keep = pattern.select({"w": pattern.costs(weight)}, 0.5)["w"].view(-1, 4).numpy()
    ranks = np.argsort(np.argsort(weight.view(-1, 4).numpy(), axis=1), axis=1)
    np.testing.assert_array_equal(keep, ranks >= 2)


def test_dense_keeps_everything():
    costs = importances(0)
    assert all(bool(k.all()) for k in DensePattern().select(costs, 0.0).values())
    with pytest.raises(StageError, match="dense pattern"):
        DensePattern().select(costs, 0.5)


@pytest.mark.parametrize("name", ["dense", "unstructured", "block4", "2of4"])
def test_patterns_by_name(name):
    assert pattern_named(name).name == name


def test_an_unknown_pattern_lists_the_known():
    with pytest.raises(RequestError, match="unstructured, block4, 2of4"):
        pattern_named("4of8x")
