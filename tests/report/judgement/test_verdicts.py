"""Verdicts against the rule's own arithmetic and against simulated seeds."""

from __future__ import annotations

import random
from math import sqrt
from statistics import fmean, stdev

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from obert_sweeps.catalogue.cell import METRICS
from obert_sweeps.catalogue.seeds import PUBLISHED_SEEDS
from obert_sweeps.report.judgement.verdicts import (
    cell_verdict,
    combine,
    half_width,
    judge,
    mean_interval,
)
from obert_sweeps.report.words.verdicts import SIGNS

DRAWS = 2000
values = st.lists(st.floats(50, 100), min_size=2, max_size=6)


def coverage(hits: int) -> float:
    return hits / DRAWS


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_band_covers_a_published_draw_without_a_published_deviation(count):
    """Truth: seeds and the published value are draws of one normal distribution."""
    rng, hits = random.Random(7), 0
    for _ in range(DRAWS):
        draws = [rng.gauss(80, 0.3) for _ in range(count)]
        half = half_width(count, stdev(draws), None)
        hits += abs(sum(draws) / count - rng.gauss(80, 0.3)) <= half
    assert 0.93 <= coverage(hits) <= 0.97


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("ours", [0.15, 0.3, 0.6])
def test_the_band_covers_a_published_draw_with_its_deviation(count, ours):
    """Truth: the published value varies by s_pub; with one seed ours is taken to vary as much."""
    ours = 0.3 if count == 1 else ours  # else nothing tells how much one seed varies
    rng, hits = random.Random(11), 0
    for _ in range(DRAWS):
        draws = [rng.gauss(80, ours) for _ in range(count)]
        half = half_width(count, stdev(draws) if count > 1 else None, 0.3)
        hits += abs(sum(draws) / count - rng.gauss(80, 0.3)) <= half
    assert 0.93 <= coverage(hits) <= 0.97


@pytest.mark.parametrize(
    ("count", "runs", "known"),
    [(1, 4, True), (3, 4, True), (5, 3, True), (3, 4, False), (3, 2, False), (5, 3, False)],
)
def test_the_band_covers_a_published_mean_of_several_runs(count, runs, known):
    rng, hits = random.Random(13), 0
    for _ in range(DRAWS):
        draws = [rng.gauss(80, 0.3) for _ in range(count)]
        published = sum(rng.gauss(80, 0.3) for _ in range(runs)) / runs
        s = stdev(draws) if count > 1 else None
        half = half_width(count, s, 0.3 if known else None, runs=runs)
        hits += abs(sum(draws) / count - published) <= half
    assert 0.93 <= coverage(hits) <= 0.97


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_interval_of_the_mean_covers_it(count):
    rng, hits = random.Random(3), 0
    for _ in range(DRAWS):
        low, high = mean_interval([rng.gauss(80, 0.5) for _ in range(count)])
        hits += low <= 80 <= high
    assert 0.93 <= coverage(hits) <= 0.97


def test_the_band_by_hand():
    # n = 3, s = 0.2, no published deviation: t(2) sqrt(0.04 / 3 + 0.04)
    assert half_width(3, 0.2, None) == pytest.approx(4.302653 * sqrt(0.04 / 3 + 0.04), rel=1e-6)
    # one seed: the published deviation stands for ours, and the quantile is the normal one
    assert half_width(1, None, 0.127) == pytest.approx(1.959964 * sqrt(2) * 0.127, rel=1e-6)
    assert half_width(1, None, None) is None


CARDS = [  # (task, sparsity), metric, mean and deviation as the model cards print them
    (("squad", 0.97), "f1", 85.98, 0.115),
    (("squad", 0.97), "em", 78.11, 0.175),
    (("mnli", 0.90), "accuracy", 83.40, 0.086),
    (("mnli", 0.90), "accuracy_mm", 83.78, 0.241),
    (("mnli", 0.97), "accuracy", 80.91, 0.178),
    (("mnli", 0.97), "accuracy_mm", 81.13, 0.351),
    (("qqp", 0.90), "accuracy", 90.99, 0.061),
    (("qqp", 0.90), "f1", 87.81, 0.079),
    (("qqp", 0.97), "accuracy", 90.33, 0.098),
    (("qqp", 0.97), "f1", 86.97, 0.186),
]


@pytest.mark.parametrize(("where", "metric", "mean", "sd"), CARDS)
def test_published_bands_reproduce_their_own_published_seeds(where, metric, mean, sd):
    seeds = PUBLISHED_SEEDS[where][metric]
    assert fmean(seeds) == pytest.approx(mean, abs=0.01)  # the cards cut digits off
    assert stdev(seeds) == pytest.approx(sd, abs=0.001)
    assert judge(seeds, mean, 1.0, s_pub=sd).verdict == "reproduced"
    for value in seeds:  # also where only one of them had been run
        assert judge([value], mean, 1.0, s_pub=sd).verdict == "reproduced"


def test_one_seed_without_a_deviation_is_undecided_even_where_it_agrees():
    judgement = judge([88.54], 88.54, 1.0)
    assert (judgement.verdict, judgement.half_width) == ("undecided", None)
    assert "one seed" in judgement.reason


def test_noise_does_not_pass_for_agreement():
    noisy = judge([70.0, 80.0, 90.0], 80.0, 1.0)
    assert noisy.verdict == "undecided" and noisy.half_width > 1.0
    assert noisy.seeds_to_decide is None  # the published draw itself would be that noisy


def test_seeds_that_all_give_the_same_are_no_certainty():
    """One dense model pruned at once by magnitude, under three seeds."""
    same = judge([94.67] * 3, 94.67, 1.0)
    assert (same.verdict, same.half_width, same.seeds_to_decide) == ("undecided", None, None)
    assert "the same for all seeds" in same.reason
    assert mean_interval([94.67] * 3) is None
    assert judge([94.67] * 3, 94.67, 1.0, s_pub=0.2).verdict == "reproduced"


def test_more_seeds_are_asked_for_where_they_would_decide():
    pair = judge([79.9, 80.1], 80.0, 1.0)
    assert pair.verdict == "undecided"
    more = [80.0 + 0.1 * sqrt(2) * x for x in (-1.0, 0.0, 1.0)]
    assert pair.seeds_to_decide == 3 and judge(more, 80.0, 1.0).verdict == "reproduced"


def test_the_whole_interval_must_lie_beyond_the_margin():
    close = [81.0, 81.1, 81.2]  # half-width 0.5: from 0.6 to 1.6 above
    assert judge(close, 80.0, 1.0).verdict == "undecided"
    assert judge([v + 1 for v in close], 80.0, 1.0).verdict == "better"
    assert judge([160 - v - 1 for v in close], 80.0, 1.0).verdict == "worse"


@given(values, st.floats(50, 100), st.floats(0.1, 5))
def test_verdicts_follow_the_rule(drawn, published, margin):
    assume(stdev(drawn) > 0)
    found = judge(drawn, published, margin)
    low, high = found.difference - found.half_width, found.difference + found.half_width
    assume(min(abs(abs(x) - margin) for x in (low, high, found.half_width)) > 1e-6)
    assume(abs(abs(found.difference) - found.half_width) > 1e-6)
    expected = "undecided"
    if low > margin:
        expected = "better"
    elif high < -margin:
        expected = "worse"
    elif found.half_width <= margin and low <= 0 <= high:
        expected = "reproduced"
    assert found.verdict == expected


@given(values, st.floats(50, 100))
def test_mirrored_values_get_the_mirrored_verdict(drawn, published):
    mirror = {"better": "worse", "worse": "better"}
    ours = judge(drawn, published, 1.0)
    theirs = judge([2 * published - v for v in drawn], published, 1.0)
    assume(abs(abs(ours.difference) - (ours.half_width or 0)) > 1e-6)
    assert theirs.verdict == mirror.get(ours.verdict, ours.verdict)


def test_sizes_agree_within_their_margin():
    size = dict(exact=True, lower_is_better=True)
    assert judge([38.5], 38.2, 3.82, **size).verdict == "reproduced"
    assert judge([45.0], 38.2, 3.82, **size).verdict == "worse"  # a larger file
    assert judge([30.0], 38.2, 3.82, **size).verdict == "better"
    assert judge([45.0], 38.2, 3.82, **size).difference == pytest.approx(6.8)
    assert judge([40.0], 34.0, 3.4, exact=True).verdict == "better"  # compressed further
    assert [m.name for m in METRICS.values() if m.lower_is_better] == ["file_mb"]


def test_a_value_read_off_a_figure_is_not_tested_closely():
    three = [83.1, 83.2, 83.3]
    assert judge(three, 85.0, 1.0).verdict == "worse"
    assert judge(three, 85.0, 1.0, reading_error=2.5).verdict == "reproduced"
    assert judge([60.0, 60.1, 60.2], 85.0, 1.0, reading_error=2.5).verdict == "worse"


def test_no_values_are_refused():
    with pytest.raises(ValueError, match="no values"):
        judge([], 80.0, 1.0)


@pytest.mark.parametrize(
    ("metrics", "token"),
    [
        ([], "unpublished"),
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "better"], "better"),
        (["better", "undecided"], "undecided"),
        (["better", "worse", "undecided"], "worse"),
    ],
)
def test_metrics_combine(metrics, token):
    assert combine(metrics) == token


CASES = [
    (dict(blocked=True), "blocked"),
    (dict(failed=True), "failed"),
    (dict(converged=[]), "not_run"),
    (dict(), "reproduced"),
    (dict(metrics=[]), "unpublished"),
    (dict(converged=[True, False]), "not_converged"),
    (dict(converged=[False], metrics=[]), "not_converged"),
    (dict(published_converges=False, converged=[False, False], metrics=[]), "reproduced"),
    (dict(published_converges=False, converged=[False, True], metrics=[]), "undecided"),
    (dict(published_converges=False, converged=[True], metrics=[]), "better"),
    (dict(stand_in=True), "stand_in"),
    (dict(stand_in=True, converged=[]), "not_run"),
    (dict(stand_in=True, converged=[False]), "not_converged"),
    (dict(stand_in=True, published_converges=False, converged=[False]), "stand_in"),
    (dict(stand_in=True, published_converges=False), "stand_in"),
    (dict(stand_in=True, failed=True), "failed"),
]


@pytest.mark.parametrize(("given_", "token"), CASES)
def test_the_contract_s_tokens(given_, token):
    usual = dict(
        blocked=False,
        failed=False,
        converged=[True, True],
        stand_in=False,
        published_converges=True,
        metrics=["reproduced"],
    )
    assert cell_verdict(**(usual | given_)) == token
    assert token in SIGNS
