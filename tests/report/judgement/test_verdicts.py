"""Verdicts against the rule's own arithmetic and against simulated seeds."""

from __future__ import annotations

import random
from collections import Counter
from math import sqrt
from statistics import fmean, stdev

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from obert_sweeps.catalogue.cell import METRICS
from obert_sweeps.catalogue.seeds import PUBLISHED_SEEDS, PublishedDeviation
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


def covered(rng: random.Random, count: int, ours: float, runs: int, known: bool) -> bool:
    """Whether the interval of one simulated cell covers the truth, which is no difference.

    The published value is a mean of `runs` draws that vary by 0.3, which four printed seeds tell if
    `known`.
    """
    draws = [rng.gauss(80, ours) for _ in range(count)]
    published = fmean(rng.gauss(80, 0.3) for _ in range(runs))
    printed = [rng.gauss(80, 0.3) for _ in range(4)]
    given = PublishedDeviation(stdev(printed), 4) if known else None
    half = half_width(count, stdev(draws) if count > 1 else None, given, runs)
    assert half is not None
    return abs(fmean(draws) - published) <= half


@pytest.mark.parametrize(
    ("count", "ours", "runs", "known"),
    [
        *((count, 0.3, 1, False) for count in (2, 3, 5)),
        *((count, 0.3, 4, False) for count in (3, 5)),
        *((1, 0.3, runs, True) for runs in (1, 4)),  # one seed: ours is taken to vary as theirs
        *((count, ours, 1, True) for count in (3, 5) for ours in (0.15, 0.3, 0.6)),
        *((3, ours, 4, True) for ours in (0.15, 0.3, 0.6)),
    ],
)
def test_the_interval_covers_the_truth(count, ours, runs, known):
    rng = random.Random(7)
    hits = sum(covered(rng, count, ours, runs, known) for _ in range(DRAWS))
    assert 0.87 <= hits / DRAWS <= 0.93


def verdicts(sd: float, shift: float, count: int) -> Counter[str]:
    rng, found = random.Random(17), Counter[str]()
    for _ in range(DRAWS):
        drawn = [rng.gauss(80 + shift, sd) for _ in range(count)]
        found[judge(drawn, rng.gauss(80, sd), 1.0).verdict] += 1
    return found


@pytest.mark.parametrize(("sd", "count"), [(0.1, 2), (0.1, 5), (0.3, 3), (0.3, 10), (0.5, 5)])
def test_a_method_on_the_margin_itself_is_misjudged_one_time_in_twenty_each_way(sd, count):
    found = verdicts(sd, -1.0, count)
    assert found["reproduced"] / DRAWS <= 0.065 and found["worse"] / DRAWS <= 0.065
    assert found["better"] == 0


def test_more_precise_results_are_judged_more_often_and_rightly():
    """What an interval that had to contain the published value itself got wrong."""
    rates = [verdicts(0.1, -0.5, count)["reproduced"] / DRAWS for count in (2, 3, 5)]
    assert rates == sorted(rates) and rates[-1] > 0.95
    assert judge([79.6, 79.6001, 79.5999], 80.0, 1.0).verdict == "reproduced"


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_interval_of_the_mean_covers_it(count):
    rng, hits = random.Random(3), 0
    for _ in range(DRAWS):
        low, high = mean_interval([rng.gauss(80, 0.5) for _ in range(count)])
        hits += low <= 80 <= high
    assert 0.93 <= hits / DRAWS <= 0.97


def test_the_interval_by_hand():
    # n = 3, s = 0.2, no published deviation: t(2) sqrt(0.04 / 3 + 0.04)
    assert half_width(3, 0.2, None) == pytest.approx(2.919986 * sqrt(0.04 / 3 + 0.04), rel=1e-6)
    # one seed: the deviation of four printed seeds stands for ours, t(3)
    four = PublishedDeviation(0.127, 4)
    assert half_width(1, None, four) == pytest.approx(2.353363 * sqrt(2) * 0.127, rel=1e-6)
    assert half_width(3, 0.0, four, 4) == half_width(1, None, four, 4)
    assert half_width(1, None, None) is half_width(3, 0.0, None) is None
    # parts of equal size, with 2 and with 3 degrees of freedom: 4 / (1 / 2 + 1 / 3) = 4.8 in all
    both = half_width(3, 0.3, PublishedDeviation(0.2 * sqrt(3), 4), 4)
    assert both is not None
    assert 2.015 < both / sqrt(0.03 + 0.03) < 2.132  # t(5) and t(4)


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
    given = PublishedDeviation(sd, len(seeds))
    assert judge(seeds, mean, 1.0, s_pub=given, runs=len(seeds)).verdict == "reproduced"
    for value in seeds:  # one of them alone lies within the margin too, if surely so
        found = judge([value], mean, 1.0, s_pub=given, runs=len(seeds))
        assert found.verdict == "reproduced" or (sd > 0.3 and found.verdict == "undecided")


def test_one_seed_without_a_deviation_is_undecided_even_where_it_agrees():
    judgement = judge([88.54], 88.54, 1.0)
    assert (judgement.verdict, judgement.half_width) == ("undecided", None)
    assert "one seed" in judgement.reason


def test_noise_does_not_pass_for_agreement():
    noisy = judge([70.0, 80.0, 90.0], 80.0, 1.0)
    assert noisy.verdict == "undecided" and noisy.half_width > 1.0
    assert noisy.seeds_to_decide is None  # the published draw itself would be that noisy
    assert "not even 100 seeds would decide it" in noisy.reason


def test_seeds_that_all_give_the_same_are_no_certainty():
    """One dense model pruned at once by magnitude, under three seeds."""
    same = judge([94.67] * 3, 94.67, 1.0)
    assert (same.verdict, same.half_width, same.seeds_to_decide) == ("undecided", None, None)
    assert "the same for all seeds" in same.reason
    assert mean_interval([94.67] * 3) is None
    given = PublishedDeviation(0.2, 4)
    one, three = (judge([94.67] * n, 94.67, 1.0, s_pub=given) for n in (1, 3))
    assert one == three and one.verdict == "reproduced"


def test_more_seeds_are_asked_for_where_they_would_decide():
    pair = judge([79.9, 80.1], 80.0, 1.0)  # t(1) is 6.3
    assert pair.verdict == "undecided"
    more = [80.0 + 0.1 * sqrt(2) * x for x in (-1.0, 0.0, 1.0)]
    assert pair.seeds_to_decide == 3 and judge(more, 80.0, 1.0).verdict == "reproduced"


def test_the_whole_interval_must_lie_on_one_side_of_the_margin():
    close = [81.0, 81.1, 81.2]  # ± 0.34: from 0.76 to 1.44 above
    assert judge(close, 80.0, 1.0).verdict == "undecided"
    assert judge([v + 1 for v in close], 80.0, 1.0).verdict == "better"
    assert judge([160 - v - 1 for v in close], 80.0, 1.0).verdict == "worse"
    assert judge([v - 0.5 for v in close], 80.0, 1.0).verdict == "reproduced"


@given(values, st.floats(50, 100), st.floats(0.1, 5))
def test_verdicts_follow_the_rule(drawn, published, margin):
    assume(stdev(drawn) > 0)
    found = judge(drawn, published, margin)
    low, high = found.difference - found.half_width, found.difference + found.half_width
    assume(min(abs(abs(x) - margin) for x in (low, high)) > 1e-6)
    expected = "undecided"
    if low > margin:
        expected = "better"
    elif high < -margin:
        expected = "worse"
    elif -margin < low and high < margin:
        expected = "reproduced"
    assert found.verdict == expected


@given(values, st.floats(50, 100))
def test_mirrored_values_get_the_mirrored_verdict(drawn, published):
    mirror = {"better": "worse", "worse": "better"}
    ours = judge(drawn, published, 1.0)
    theirs = judge([2 * published - v for v in drawn], published, 1.0)
    edge = abs(ours.difference) - 1.0
    assume(min(abs(edge - h) for h in (ours.half_width or 0, -(ours.half_width or 0))) > 1e-6)
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
