"""The memory plan: every block once, every round within the budget, decisions made together."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from obs_budget import block_bytes, budget_for

from obert_sweeps.method.obs.rounds import MemoryPlan, Segment, plan_rounds
from obert_sweeps.schema import StageError
from obert_sweeps.sparsity.pattern import pattern_named

GIB = 2**30
BERT_BASE = {
    f"{layer}.{name}": size
    for layer in range(12)
    for name, size in {"q": 768**2, "k": 768**2, "v": 768**2, "o": 768**2}.items()
    | {"i": 768 * 3072, "d": 3072 * 768}.items()
}
BERT_LARGE = {
    f"{layer}.{name}": size
    for layer in range(24)
    for name, size in {n: 1024**2 for n in "qkvo"}.items() | {n: 4096 * 1024 for n in "id"}.items()
}


def rounds_of(plan: MemoryPlan) -> list[list[Segment]]:
    return [segments for rounds in plan.together for segments in rounds]


@given(
    sizes=st.lists(st.integers(1, 40).map(lambda n: 12 * n), min_size=1, max_size=6),
    block_size=st.sampled_from([4, 12, 20]),
    fit=st.integers(1, 60),
    workers=st.integers(1, 4),
    pattern=st.sampled_from(["unstructured", "block4", "2of4"]),
    scope=st.sampled_from(["global", "tensor"]),
)
def test_every_block_is_in_one_round_and_every_round_fits(
    sizes: list[int], block_size: int, fit: int, workers: int, pattern: str, scope: Any
) -> None:
    layers = {f"l{i}": size for i, size in enumerate(sizes)}
    budget = budget_for(fit, layers, block_size, pattern, scope, workers)
    plan = plan_rounds(layers, block_size, pattern_named(pattern), scope, budget, workers=workers)
    one_block = block_bytes(block_size)
    rounds = rounds_of(plan)
    order = [segment for segments in rounds for segment in segments]
    for name, size in layers.items():
        mine = [segment for segment in order if segment.layer == name]
        assert mine[0].begin == 0 and mine[-1].end == size
        assert all(a.end == b.begin for a, b in pairwise(mine))
        assert all(segment.begin % block_size == 0 for segment in mine)
    assert [s.layer for s in order] == sorted((s.layer for s in order), key=list(layers).index)
    for segments in rounds:
        assert len({segment.layer for segment in segments}) == len(segments)
        held = [
            sum(
                -(-len(segment.shares(workers, block_size)[rank]) // block_size)
                for segment in segments
            )
            for rank in range(workers)
        ]
        assert max(held) * one_block <= plan.largest <= fit * one_block
    for rounds_together in plan.together:
        names = [{s.layer for s in segments} for segments in rounds_together]
        if pattern == "2of4":
            assert len(rounds_together) == 1
        elif scope == "tensor":  # only because they share a layer
            assert all(a & b for a, b in pairwise(names))
    if pattern != "2of4" and scope == "global":
        assert len(plan.together) == 1
    if pattern != "2of4":  # layers whose parts compete are decided on together
        for name in layers:
            assert sum(any(name == s.layer for r in t for s in r) for t in plan.together) == 1


@given(
    begin=st.integers(0, 9), n=st.integers(0, 300), count=st.integers(1, 9), block=st.integers(1, 9)
)
def test_shares_are_a_partition_by_blocks_and_even(
    begin: int, n: int, count: int, block: int
) -> None:
    whole = Segment("a", begin * block, begin * block + n)
    shares = whole.shares(count, block)
    assert len(shares) == count
    assert shares[0].begin == whole.begin and shares[-1].end == whole.end
    assert all(a.end == b.begin for a, b in pairwise(shares))
    blocks = [-(-len(share) // block) for share in shares]
    assert sum(blocks) == -(-n // block) and max(blocks) - min(blocks) <= 1


def test_a_segment_is_a_view_of_the_flattened_weight() -> None:
    weight = torch.arange(24.0).view(4, 6)
    segment = Segment("a", 4, 16)
    assert torch.equal(segment.of(weight), torch.arange(4.0, 16.0))
    gradients = torch.arange(48.0).view(2, 4, 6)
    assert torch.equal(segment.of(gradients)[1], torch.arange(28.0, 40.0))
    segment.of(weight).fill_(0)
    assert int((weight == 0).sum()) == 13  # 4 .. 15, and 0


def test_bert_base_at_b_50_within_16_gib_and_bert_large_within_24() -> None:
    """Sections 3.4 and A.3 of the paper: B = 50; 17 GB for BERT-base."""
    unstructured = pattern_named("unstructured")
    assert sum(BERT_BASE.values()) == 84_934_656 and sum(BERT_LARGE.values()) == 301_989_888
    base = plan_rounds(BERT_BASE, 50, unstructured, "global", 16 * GIB)
    assert base.total == pytest.approx(84_934_656 * 4 * 51, rel=0.01)
    assert [len(rounds) for rounds in base.together] == [2]
    assert base.draws(scratch=False) == 3 and base.draws(scratch=True) == 2
    large = plan_rounds(BERT_LARGE, 50, unstructured, "global", 24 * GIB)
    assert base.largest < 15 * GIB and large.largest < 17 * GIB
    assert len(rounds_of(large)) <= 4
    whole = plan_rounds(BERT_LARGE, 50, unstructured, "global", 100 * GIB)
    assert len(rounds_of(whole)) == 1 and whole.draws(scratch=False) == 1


def test_two_workers_hold_half() -> None:
    unstructured = pattern_named("unstructured")
    one = plan_rounds(BERT_BASE, 50, unstructured, "global", 64 * GIB)
    two = plan_rounds(BERT_BASE, 50, unstructured, "global", 64 * GIB, workers=2)
    assert two.total == pytest.approx(one.total / 2, rel=0.001)


def test_the_refusal_names_a_budget_that_is_enough() -> None:
    unstructured = pattern_named("unstructured")
    with pytest.raises(StageError, match=r"at least [\d.]+ GiB") as refused:
        plan_rounds(BERT_BASE, 50, unstructured, "global", GIB)
    needed = float(str(refused.value).split("at least ")[1].split()[0])
    assert plan_rounds(BERT_BASE, 50, unstructured, "global", int((needed + 0.001) * GIB))
