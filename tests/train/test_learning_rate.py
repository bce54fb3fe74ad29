from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obert_sweeps.schema import LearningRatePiece, PruningTimes, RequestError
from obert_sweeps.sparsity.schedule import pruning_steps, step_of
from obert_sweeps.train.learning_rate import check_pieces, learning_rate


def gradual() -> list[LearningRatePiece]:
    return [
        LearningRatePiece(until=2, initial=8e-5, final=8e-6),
        LearningRatePiece(until=30, initial=8e-5, final=8e-6, every=4),
    ]


def test_a_line_has_both_its_ends():
    piece = [LearningRatePiece(until=3, initial=3.0, final=0.0)]
    rates = [learning_rate(piece, step, 4) for step in range(12)]
    assert rates == pytest.approx([3.0 - 3.0 * i / 11 for i in range(12)])
    assert learning_rate(piece, 50, 4) == rates[-1]


def test_cycles_restart_at_the_pruning_steps_and_reach_the_final_rate():
    per_epoch = 7
    pruned = pruning_steps(PruningTimes(2, 26, 4, 0.7), 0.9, per_epoch, 30 * per_epoch)
    for step in pruned:
        assert learning_rate(gradual(), step, per_epoch) == 8e-5
        assert learning_rate(gradual(), step - 1, per_epoch) == pytest.approx(8e-6)
    assert learning_rate(gradual(), 30 * per_epoch - 1, per_epoch) == pytest.approx(8e-6)


@given(
    per_epoch=st.integers(4, 333),
    every=st.sampled_from([0.25, 0.3, 0.5, 0.7, 1.0, 4.0]),
    begin=st.sampled_from([0.0, 0.1, 2.0]),
    count=st.integers(2, 9),
)
def test_cycles_keep_to_pruning_steps_when_epochs_do_not_divide(per_epoch, every, begin, count):
    end = begin + every * count
    pieces = [LearningRatePiece(until=end, initial=1.0, final=0.5, every=every)]
    if begin:
        pieces.insert(0, LearningRatePiece(until=begin, initial=1.0, final=0.5))
    times = PruningTimes(begin, begin + every * (count - 1), every)
    pruned = pruning_steps(times, 0.9, per_epoch, step_of(end, per_epoch) + 1)
    rates = [learning_rate(pieces, step, per_epoch) for step in range(step_of(end, per_epoch))]
    jumps = {i for i in range(1, len(rates)) if rates[i] > rates[i - 1]}
    lengths = [b - a for a, b in zip(list(pruned), list(pruned)[1:], strict=False)]
    if min([*lengths, len(rates) - max(pruned)]) > 1:
        expected = set(pruned) - {0}
        if begin and step_of(begin, per_epoch) == 1:
            expected -= {1}  # the first piece is one step long and has no fall to jump back from
        assert jumps == expected
    assert all(0.5 <= rate <= 1.0 for rate in rates)


def test_a_trailing_part_of_a_cycle_is_cut_off_on_its_line():
    pieces = [LearningRatePiece(until=2.5, initial=1.0, final=0.0, every=1)]
    whole = [learning_rate(pieces, step, 10) for step in range(10)]
    assert [learning_rate(pieces, step, 10) for step in range(20, 25)] == pytest.approx(whole[:5])
    assert learning_rate(pieces, 25, 10) == pytest.approx(whole[4])
    pieces = [LearningRatePiece(0.5, 1.0, 0.0), LearningRatePiece(2, 1.0, 0.0, every=1)]
    assert learning_rate(pieces, 20, 10) == pytest.approx(whole[4])  # its cycles begin at 0.5


def test_a_cycle_of_one_step_has_the_initial_rate():
    assert learning_rate([LearningRatePiece(1, 0.5, 0.0, every=0.5)], 1, 2) == 0.5


@pytest.mark.parametrize(
    "pieces",
    [
        [LearningRatePiece(2, 1, 0), LearningRatePiece(2, 1, 0)],
        [LearningRatePiece(4, 1, 0, every=0)],
        [LearningRatePiece(4, 1, -1)],
        [LearningRatePiece(float("nan"), 1, 0)],
    ],
)
def test_impossible_pieces_are_refused(pieces):
    with pytest.raises(RequestError):
        check_pieces(pieces)
