from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obert_sweeps.plan.stretch import shorten
from obert_sweeps.schema import LearningRatePiece, PruningTimes, RequestError, Training
from obert_sweeps.sparsity.schedule import pruning_steps, step_of
from obert_sweeps.train.learning_rate import learning_rate


def training() -> Training:
    return Training(
        epochs=30,
        batch_size=16,
        learning_rate=[
            LearningRatePiece(until=2, initial=8e-5, final=8e-6),
            LearningRatePiece(until=30, initial=8e-5, final=8e-6, every=4),
        ],
        pruning=PruningTimes(2, 26, 4, 0.7),
        evaluate_every=1.0,
    )


def test_shortened_training_keeps_its_shape():
    long, short = training(), shorten(training(), 3)
    assert short.epochs == 3 and short.evaluate_every == 1.0
    assert short.pruning == PruningTimes(*map(pytest.approx, (0.2, 2.6, 0.4, 0.7)))
    before = pruning_steps(long.pruning, 0.9, 100, 3000)
    after = pruning_steps(short.pruning, 0.9, 1000, 3000)
    assert list(after) == list(before)
    assert list(after.values()) == pytest.approx(list(before.values()))
    for step in range(0, 3000, 37):
        assert learning_rate(short.learning_rate, step, 1000) == pytest.approx(
            learning_rate(long.learning_rate, step, 100)
        )
    assert long == training()  # the original is untouched


def test_masks_that_settle_before_the_end_settle_at_the_same_share():
    times = PruningTimes(1, 6, initial=0.1, until=8, every_steps=3)
    short = shorten(Training(10, 8, [], pruning=times), 5)
    assert short.pruning == PruningTimes(0.5, 3, initial=0.1, until=4, every_steps=3)


def test_shortening_leaves_what_is_short_enough():
    assert shorten(training(), 30) == training()
    one_shot = Training(0, 16, [], pruning=PruningTimes(0, 0))
    assert shorten(one_shot, 1) == one_shot


@given(
    start=st.floats(0, 5),
    ramp=st.floats(0, 10),
    tail=st.floats(0.1, 5),
    every=st.integers(1, 40),
    level=st.floats(0.1, 1.0),
    per_epoch=st.integers(1, 500),
    factor=st.floats(0.05, 1.0),
)
def test_pruning_by_steps_keeps_its_shape_however_short(
    start, ramp, tail, every, level, per_epoch, factor
):
    epochs = start + ramp + tail
    times = PruningTimes(start, start + ramp, initial=0.05, until=epochs, every_steps=every)
    long = Training(epochs, 8, [LearningRatePiece(epochs, 1e-4, 0.0)], pruning=times)
    short = shorten(long, epochs * factor)
    total = step_of(short.epochs, per_epoch)
    try:
        steps = pruning_steps(short.pruning, level, per_epoch, total)
    except RequestError:
        assert total == 0 or step_of(short.pruning.end, per_epoch) >= total
        return
    points, levels = list(steps), list(steps.values())
    assert points == sorted(points) and points[-1] == total - 1
    assert levels == sorted(levels) and levels[-1] == level
    first, end = (step_of(e * factor, per_epoch) for e in (start, start + ramp))
    assert points[0] == first and steps[end] == level
    assert all(p % every == 0 for p in points if p not in (first, end, total - 1))
    assert set(range(every * -(-first // every), total, every)) <= set(points)
    for step in points:
        if step < end:  # the level is that of the same share of the climb
            share = (step - first) / (end - first)
            assert steps[step] == pytest.approx(0.05 + (level - 0.05) * (1 - (1 - share) ** 3))
