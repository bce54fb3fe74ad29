"""Every row once an epoch, any step again from its number alone, parts that make up the whole."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bert import Toy, batches_of

from obert_sweeps.task.base import Features
from obert_sweeps.train.batches import Batches
from obert_sweeps.train.data import Data
from obert_sweeps.train.parts import joined, micro_batches, rows_of, shares, split
from obert_sweeps.train.seeds import seed_of


def rows_data(rows: list[dict[str, Any]]) -> Data:
    return Data(Toy(), None, training_rows=lambda: Features("train", rows))


@given(rows=st.integers(1, 40), size=st.integers(1, 12), seed=st.integers(0, 2**40))
def test_every_epoch_has_every_row_once_in_another_order(rows: int, size: int, seed: int) -> None:
    batches = Batches(rows_data([{}] * rows), size, seed)
    epochs = []
    for epoch in range(2):
        steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
        epochs.append([i for step in steps for i in batches.indices(step)])
        assert sorted(epochs[-1]) == list(range(rows))
    if rows > 15:
        assert epochs[0] != epochs[1]


LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=60)


@given(lengths=LENGTHS, size=st.integers(1, 6), window=st.integers(2, 5), seed=st.integers(0, 99))
def test_rows_are_dealt_by_length_within_a_window(
    lengths: list[int], size: int, window: int, seed: int
) -> None:
    data = rows_data([{"input_ids": [0] * n} for n in lengths])
    plain = Batches(data, size, seed)
    batches = Batches(data, size, seed, group_by_length=window)
    steps = range(batches.steps_per_epoch)
    assert batches.steps_per_epoch == plain.steps_per_epoch
    whole = [step for step in steps if len(plain.indices(step)) == size]
    for begin in range(0, len(whole), window):
        part = whole[begin : begin + window]
        rows = [i for step in part for i in plain.indices(step)]
        found = [batches.indices(step) for step in part]
        assert sorted(i for batch in found for i in batch) == sorted(rows)
        # By rank: no batch overlaps another in length.
        spans = sorted((min(lengths[i] for i in b), max(lengths[i] for i in b)) for b in found)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
    for step in set(steps) - set(whole):
        assert batches.indices(step) == plain.indices(step)


def test_grouped_batches_follow_from_seed_and_step_and_come_in_no_order_of_length() -> None:
    def batches(seed: int = 0) -> Batches:
        data = rows_data([{"input_ids": [0] * (1 + i)} for i in range(60)])
        return Batches(data, 4, seed, group_by_length=15)

    first, second = batches(), batches()
    wanted = [first.indices(step) for step in range(45)]
    assert [second.indices(step) for step in (44, 3, 20)] == [wanted[i] for i in (44, 3, 20)]
    for epoch in range(3):
        longest = [max(batch) for batch in wanted[15 * epoch : 15 * epoch + 15]]
        assert longest not in (sorted(longest), sorted(longest, reverse=True))
    assert len({str(wanted[15 * e : 15 * e + 15]) for e in range(3)}) == 3
    assert [batches(1).indices(step) for step in range(15)] != wanted[:15]


def test_a_step_can_be_made_again_without_those_before_it() -> None:
    task = Toy(head="mlm", rows=21)
    first, second = batches_of(task, 4), batches_of(task, 4)
    wanted = [first(step) for step in range(14)]
    for step in (13, 5, 0, 6):
        again = second(step)
        assert all(torch.equal(again[k], wanted[step][k]) for k in again)
    other = batches_of(task, 4, seed=1)(5)
    assert not torch.equal(other["input_ids"], wanted[5]["input_ids"])
    one = batches_of(Toy(head="mlm", rows=1), 1)  # a row's masks are drawn anew each time
    assert len({str(one(step)["labels"].tolist()) for step in range(9)}) > 3


def test_batches_are_padded_to_their_own_longest_row() -> None:
    batches = batches_of(Toy(rows=30), 3)
    widths = set()
    for step in range(batches.steps_per_epoch):
        batch = batches(step)
        assert batch["rows"].tolist() == batches.indices(step)
        longest = max(len(batches.data.train.rows[i]["input_ids"]) for i in batches.indices(step))
        assert batch["input_ids"].shape[1] == longest
        widths.add(longest)
    assert len(widths) > 1


@pytest.mark.parametrize("head", ["classification", "span", "mlm"])
def test_micro_batches_are_the_batch_cut_and_trimmed(head: str) -> None:
    task = Toy(head=head, rows=11)
    batch = batches_of(task, 11)(0)
    parts = list(micro_batches(batch, 4))
    assert [len(part["input_ids"]) for part in parts] == [4, 4, 3]
    assert sum(task.head.counted(part) for part in parts) == task.head.counted(batch)
    begin = 0
    for part in parts:
        rows = len(part["input_ids"])
        longest = int(batch["attention_mask"][begin : begin + rows].sum(1).max())
        for name, tensor in part.items():
            whole = batch[name][begin : begin + rows]
            by_row = name == "rows" or (name == "labels" and head != "mlm")
            cut = whole if by_row else whole[:, :longest]
            assert torch.equal(tensor, cut) and tensor.is_contiguous()
        begin += rows
    assert list(micro_batches(batch, None)) == [batch]


@pytest.mark.parametrize("rows", [0, -4])
def test_a_batch_is_not_cut_into_nothing(rows: int) -> None:
    """A step without parts would leave the model as it was, and count as training."""
    with pytest.raises(ValueError, match="into parts of"):
        list(micro_batches(batches_of(Toy(rows=11), 11)(0), rows))


def test_shares_weigh_parts_by_what_they_hold() -> None:
    assert shares([1, 3, 0]) == [0.25, 0.75, 0.0]
    assert shares([0, 0]) == [0.0, 0.0]
    assert shares([1, 3], whole=8) == [0.125, 0.375]  # another worker has the rest


def test_seeds_of_neighbours_do_not_meet() -> None:
    seeds = {seed_of(a, b) for a in range(60) for b in range(-1, 60)}
    assert len(seeds) == 60 * 61
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(1, 2) != seed_of(2, 1)


@pytest.mark.parametrize("head", ["classification", "regression", "span", "mlm"])
@given(batch_size=st.integers(1, 7), count=st.integers(1, 5), seed=st.integers(0, 9))
@settings(max_examples=10, deadline=None)
def test_batches_put_together_come_apart_again(
    head: str, batch_size: int, count: int, seed: int
) -> None:
    batches = batches_of(Toy(head=head, rows=11), batch_size, seed)
    apart = [batches(step) for step in range(count)]
    assert [batches.tokens(s) for s in range(count)] == [b["attention_mask"].sum() for b in apart]
    whole = joined(apart, pad_token_id=0)
    sizes = [len(batch["input_ids"]) for batch in apart]
    begin = 0
    for batch, size, piece in zip(apart, sizes, split(whole, sizes), strict=True):
        again = rows_of(whole, range(begin, begin + size))
        for name, tensor in batch.items():
            assert torch.equal(again[name], tensor) and again[name].dtype == tensor.dtype
            assert torch.equal(piece[name], whole[name][begin : begin + size])
        begin += size
    assert begin == len(whole["input_ids"])
