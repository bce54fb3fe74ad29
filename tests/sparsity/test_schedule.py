from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from obert_sweeps.schema import PruningTimes, RequestError
from obert_sweeps.sparsity.schedule import cubic, pruning_steps, step_of

# methods.md 1.5: printed to four places
PUBLISHED = [
    (2, 26, 4, 0.7, 0.8, ".7 .7421 .7704 .7875 .7963 .7995 .8"),
    (2, 26, 4, 0.7, 0.9, ".7 .7843 .8407 .875 .8926 .8991 .9"),
    (2, 26, 4, 0.7, 0.97, ".7 .8137 .89 .9363 .96 .9688 .97"),
    (2, 26, 4, 0.3, 0.9, ".3 .5528 .7222 .825 .8778 .8972 .9"),
    (
        *(2, 8, 0.5, 0.7, 0.9),
        ".7 .7459 .7843 .8156 .8407 .8603 .875 .8855 .8926 .8969 .8991 .8999 .9",
    ),
    (
        *(0, 2.75, 0.25, 0.7, 0.9),
        ".7 .7497 .7905 .8231 .8485 .8675 .8812 .8904 .8959 .8988 .8998 .9",
    ),
    (
        *(2, 28, 2, 0.7, 0.95),
        ".7 .7534 .7985 .8362 .867 .8917 .911 .9254 .9358 .9427 .9469 .9491 .9499 .95",
    ),
    (
        *(2, 28, 2, 0.25, 0.5),
        ".25 .3034 .3485 .3862 .417 .4417 .461 .4754 .4858 .4927 .4969 .4991 .4999 .5",
    ),
]


@pytest.mark.parametrize(("start", "end", "every", "initial", "level", "printed"), PUBLISHED)
def test_the_published_sequences(start, end, every, initial, level, printed):
    times = PruningTimes(start=start, end=end, every=every, initial=initial)
    steps = pruning_steps(times, level, steps_per_epoch=1000, total_steps=30_000)
    assert list(steps.values()) == pytest.approx([float(x) for x in printed.split()], abs=5.1e-5)
    assert list(steps) == [round((start + i * every) * 1000) for i in range(len(steps))]
    assert list(steps.values())[-1] == level


def test_cubic_is_zhu_and_gupta():
    assert cubic(0.9, 0.0, 0.0) == 0.0
    assert cubic(0.9, 0.0, 1.0) == 0.9
    assert cubic(0.8, 0.2, 0.5) == pytest.approx(0.2 + 0.6 * 0.875)


@given(
    start=st.integers(0, 20),
    count=st.integers(1, 15),
    every=st.sampled_from([0.1, 0.25, 0.3, 0.5, 1.0, 2.0]),
    level=st.floats(0.5, 1.0),
    initial=st.floats(0.0, 0.5),
    per_epoch=st.integers(1, 700),
)
def test_steps_are_distinct_growing_and_end_at_the_level(
    start, count, every, level, initial, per_epoch
):
    times = PruningTimes(start / 4, start / 4 + (count - 1) * every, every, initial)
    total = step_of(times.end + 1, per_epoch)
    try:
        steps = pruning_steps(times, level, per_epoch, total)
    except RequestError:
        assert every * per_epoch < 1  # two points closer than a step
        return
    assert len(steps) == count
    assert list(steps) == sorted(set(steps)) and max(steps) < total
    values = list(steps.values())
    assert values == sorted(values) and values[-1] == level


def test_an_interval_that_does_not_divide_the_span_still_ends_at_the_end():
    steps = pruning_steps(PruningTimes(0, 1, 0.4, 0.1), 0.6, 10, 20)
    assert list(steps) == [0, 4, 8, 10] and steps[10] == 0.6


def test_one_shot_and_a_single_step():
    assert pruning_steps(PruningTimes(0, 0), 0.5, 100, 0) == {0: 0.5}
    assert pruning_steps(PruningTimes(0, 0), 0.5, 100, 100) == {0: 0.5}
    assert pruning_steps(PruningTimes(1, 4, None, 0.7), 0.9, 100, 200) == {100: 0.9}


def test_intervals_in_optimiser_steps_and_masks_that_move_to_the_end():
    times = PruningTimes(start=0.4, end=2.4, until=3, every_steps=4)  # steps 4, 24 and 30
    steps = pruning_steps(times, 0.9, 10, 30)
    assert list(steps) == [4, 8, 12, 16, 20, 24, 28, 29]
    expected = [0.9 * (1 - (1 - (s - 4) / 20) ** 3) for s in (4, 8, 12, 16, 20)] + [0.9] * 3
    assert list(steps.values()) == pytest.approx(expected)
    above = pruning_steps(replace(times, initial=0.3), 0.9, 10, 30).values()
    assert list(above) == pytest.approx([0.3 + level * 0.6 / 0.9 for level in expected])
    assert list(pruning_steps(replace(times, until=None), 0.9, 10, 30)) == [4, 8, 12, 16, 20, 24]
    assert list(pruning_steps(replace(times, until=2.6), 0.9, 10, 30))[-2:] == [24, 26]
    assert list(pruning_steps(replace(times, end=2.5), 0.9, 10, 30))[-3:] == [25, 28, 29]


def test_intervals_in_epochs_and_masks_that_move_to_the_end():
    times = PruningTimes(start=0, end=2, every=1, initial=0.5, until=3)
    assert pruning_steps(times, 0.9, 10, 30) == {
        **{0: 0.5, 10: pytest.approx(0.85)},
        **{20: 0.9, 29: 0.9},
    }
    more = pruning_steps(replace(times, every_steps=3), 0.9, 10, 40)
    assert list(more) == [0, 10, 20, 21, 24, 27, 30]
    assert pruning_steps(PruningTimes(1, 1, until=2, every_steps=5), 0.9, 10, 20) == dict.fromkeys(
        (10, 15, 19), 0.9
    )


def test_every_task_has_platons_published_numbers_of_steps(project_root):
    """Remaining share, masking and warm-ups as the repository's schedule has them, step by step."""
    published = {  # training rows, batch, epochs, first and final warm-up in steps
        "mnli": (392_702, 32, 8, 5400, 27_000),
        "qqp": (363_846, 32, 10, 5400, 27_000),
        "qnli": (104_743, 32, 10, 2000, 12_000),
        "sst2": (67_349, 32, 6, 1000, 5000),
        "stsb": (5_749, 16, 15, 500, 2500),
        "mrpc": (3_668, 8, 10, 300, 900),
        "cola": (8_551, 32, 15, 500, 1500),
    }
    for task, (rows, batch, epochs, first, final) in published.items():
        leaf = yaml.safe_load((project_root / f"conf/schedule/platon_{task}.yaml").read_text())
        stage = leaf["stages"]["platon"]
        assert (stage["batch_size"], stage["epochs"]) == (batch, epochs)
        per_epoch = -(-rows // batch)
        total = per_epoch * epochs
        steps = pruning_steps(PruningTimes(**stage["pruning"]), 0.9, per_epoch, total)
        expected = {}
        for t in range(total):
            if first < t < total - final and t % 10 == 0:
                remains = 0.1 + 0.9 * (1 - (t - first) / (total - first - final)) ** 3
                expected[t] = 1 - remains
            elif t > total - final and t % 10 == 0:  # between, the scores and so the masks stay
                expected[t] = 0.9
        expected |= {first: 0.0, total - final: 0.9, total - 1: 0.9}
        assert steps.keys() == expected.keys()
        assert max(abs(steps[t] - expected[t]) for t in steps) < 1e-9


@pytest.mark.parametrize(
    ("times", "level", "per_epoch", "total", "said"),
    [
        (PruningTimes(0, 2, 0.5, 0.95), 0.9, 100, 300, "above the target"),
        (PruningTimes(0, 2, 0.1), 0.9, 4, 12, "two of them fall on"),
        (PruningTimes(0, 3, 1), 0.9, 10, 30, "at least one must follow"),
        (PruningTimes(0, 2, 1), 0.9, 10, 0, "0 epochs"),
        (PruningTimes(1, 1), 0.9, 10, 0, "0 epochs"),
        (PruningTimes(3, 2, 1), 0.9, 10, 50, "not after the end"),
        (PruningTimes(0, 2, 0), 0.9, 10, 50, "not an interval"),
        (PruningTimes(0, 2, 1), 1.5, 10, 50, "between 0 and 1"),
        (PruningTimes(0, 2, every_steps=0), 0.9, 10, 50, "not an interval"),
        (PruningTimes(0, 2, until=1), 0.9, 10, 50, "before pruning.end"),
        (PruningTimes(0, 2, 1, every_steps=5), 0.9, 10, 50, "both set"),
        (PruningTimes(0, 2, initial=0.95, every_steps=5), 0.9, 10, 50, "above the target"),
        (PruningTimes(0, 0, every_steps=5), 0.9, 10, 0, "0 epochs"),
        (PruningTimes(0, 0, until=0), 0.9, 10, 0, "0 epochs"),
    ],
)
def test_what_does_not_fit_is_refused(times, level, per_epoch, total, said):
    with pytest.raises(RequestError, match=said):
        pruning_steps(times, level, per_epoch, total)


def test_halves_go_upwards():
    assert [step_of(e, 2) for e in (0.25, 0.75, 1.25, 1.75)] == [1, 2, 3, 4]
    assert step_of(3 * 0.1, 10) == 3
    assert 0.145 * 100 < 14.5 and step_of(0.145, 100) == 15  # binary fractions fall short of a half


def test_a_sparsity_follows_from_the_epoch_and_not_from_the_step_it_is_rounded_to():
    times = PruningTimes(start=0.5, end=2, every=0.5, initial=0.3)
    exact = [0.3 + 0.6 * (1 - (1 - k / 3) ** 3) for k in range(4)]
    for per_epoch in (3, 1000):  # of three steps an epoch has no half
        found = pruning_steps(times, 0.9, per_epoch, 3 * per_epoch)
        assert list(found.values()) == pytest.approx(exact)


def test_the_schedule_needs_no_torch(project_root):
    code = "import sys, obert_sweeps.sparsity.schedule; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=project_root).returncode == 0
