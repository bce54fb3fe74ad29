"""One comparison of a claim, decided on values over seeds."""

from __future__ import annotations

import random
from math import sqrt

import pytest

from obert_sweeps.catalogue.claims import Claim
from obert_sweeps.report.facts.outcome import CellOutcome
from obert_sweeps.report.judgement.comparison import compare

A, B = "t5/sst2/bert_base/obert/90", "t5/sst2/bert_base/platon/90"
GREATER = Claim("x", 5, "", ((A, "accuracy"),), ((B, "accuracy"),))


def against(ours, theirs, claim=GREATER):
    measured = {
        name: CellOutcome(values={s: {"accuracy": v} for s, v in values.items()})
        for name, values in ((A, ours), (B, theirs))
    }
    return compare(claim, claim.better[0], claim.worse[0], {}, measured)


def test_pairing_by_seed_finds_what_seed_noise_hides():
    ours, theirs = {1: 80.3, 2: 85.3, 3: 90.4}, {1: 80.0, 2: 85.0, 3: 90.0}
    paired = against(ours, theirs)
    assert paired["paired"] and paired["verdict"] == "held"
    assert paired["difference"] == pytest.approx(1 / 3)
    apart = against(ours, {seed + 10: value for seed, value in theirs.items()})
    assert not apart["paired"] and apart["verdict"] == "undecided"


def test_only_shared_seeds_count_when_paired():
    found = against({1: 80.0, 2: 81.0, 9: 99.0}, {1: 78.0, 2: 79.1})
    assert found["seeds"] == [2, 2] and found["difference"] == pytest.approx(1.95)


def test_one_seed_each_decides_nothing_but_leans():
    for ours, leaning in ((83.0, "held"), (80.5, "held"), (77.0, "broken"), (80.0, "tied")):
        found = against({1: ours}, {1: 80.0})
        assert (found["verdict"], found["leaning"]) == ("undecided", leaning)
        assert found["half_width"] is None and "one seed" in found["reason"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({1: 80.1, 2: 85.1, 3: 90.1}, {1: 80.0, 2: 85.0, 3: 90.0}),  # paired
        ({1: 80.1, 2: 80.1}, {3: 80.0, 4: 80.0}),
        ({1: 80.1}, {3: 80.0, 4: 80.0}),
    ],
)
def test_seeds_that_say_the_same_know_no_deviation(ours, theirs):
    """An interval of no width would decide by any difference at all."""
    found = against(ours, theirs)
    assert (found["verdict"], found["leaning"]) == ("undecided", "held")
    assert found["half_width"] is None and "the same for all" in found["reason"]


def test_one_seed_of_a_cell_takes_the_deviation_that_was_printed_of_it():
    """MNLI's of four seeds, 0.0862, with the other side's own; nobody printed the other's."""
    a, b = "t5/mnli/bert_base/obert/90", "t5/mnli/bert_base/platon/90"
    claim = Claim("x", 5, "", ((a, "accuracy"),), ((b, "accuracy"),))

    def found(ours, theirs):
        values = {a: ours, b: theirs}
        measured = {
            n: CellOutcome(values={s: {"accuracy": v} for s, v in enumerate(found)})
            for n, found in values.items()
        }
        return compare(claim, claim.better[0], claim.worse[0], {}, measured)

    three = [81.9, 82.0, 82.1]
    own, given = 0.1**2 / 3, 0.08617**2
    half = found([82.3], three)["half_width"] / sqrt(own + given)
    assert 2.571 < half < 2.776  # t(5) and t(4): Welch's degrees of freedom are 4.8
    decided = [found([v], three)["verdict"] for v in (82.2, 82.4, 81.6)]
    assert decided == ["undecided", "held", "broken"]
    assert found([82.4], [82.0])["verdict"] == "undecided"
    assert found(three, [81.0])["verdict"] == "undecided"


def test_one_seed_borrows_no_deviation_of_the_other_side():
    for ours, theirs in (({1: 90.0}, {2: 80.0, 3: 80.1, 4: 80.2}), ({1: 89.9, 2: 90.0}, {3: 80.0})):
        found = against(ours, theirs)
        assert (found["verdict"], found["leaning"]) == ("undecided", "held")


def test_what_the_seeds_do_not_vary_is_certain():
    """A dense model pruned at once by magnitude, against a method that draws."""
    assert against({1: 90.0, 2: 90.1, 3: 90.2}, {4: 80.0, 5: 80.0})["verdict"] == "held"


@pytest.mark.parametrize(("who", "verdict"), [(A, "undecided"), (B, "held")])
def test_seeds_that_survived_win_nothing(who, verdict):
    values = {A: (92.0, 92.1), B: (90.0, 90.2)}
    measured = {
        name: CellOutcome(
            values={s: {"accuracy": value} for s, value in enumerate(two, 1)},
            diverged={3: {}} if name == who else {},
        )
        for name, two in values.items()
    }
    found = compare(GREATER, (A, "accuracy"), (B, "accuracy"), {}, measured)
    assert found["verdict"] == verdict
    assert verdict == "held" or "1 of 3 seeds of the better one did not" in found["reason"]


def test_recovers_is_a_share():
    claim = Claim("x", 5, "", ((A, "accuracy"),), ((B, "accuracy"),), "recovers", threshold=0.99)
    near, far = {1: 89.2, 2: 89.3}, {1: 88.9, 2: 88.95}
    dense = {1: 90.0, 2: 90.0}
    assert against(near, dense, claim)["verdict"] == "undecided"  # two seeds 0.1 apart: t is 12.7
    near[3], far[3], dense[3] = 89.25, 88.92, 90.0
    held = against(near, dense, claim)
    assert held["verdict"] == "held"
    # 89.25 is 0.15 above the line at 0.99 * 90, and its interval is of that, not of 89.25 - 90.
    assert held["above_line"] == pytest.approx(0.15) and held["half_width"] < 0.15
    assert held["difference"] == pytest.approx(-0.75)
    assert against(far, dense, claim)["verdict"] == "broken"


def test_divergence_loses():
    converged = CellOutcome(values={1: {"accuracy": 80.0}})
    diverged = CellOutcome(diverged={1: {}})
    place = ((A, "accuracy"), (B, "accuracy"))
    assert compare(GREATER, *place, {}, {A: converged, B: diverged})["verdict"] == "held"
    assert compare(GREATER, *place, {}, {A: diverged, B: converged})["verdict"] == "broken"
    assert compare(GREATER, *place, {}, {A: diverged, B: diverged})["verdict"] == "undecided"
    assert compare(GREATER, *place, {}, {A: converged})["verdict"] == "undecided"


@pytest.mark.parametrize("paired", [True, False])
def test_equal_methods_are_rarely_called_different(paired):
    """Held or broken each come up in some 2.5 % of draws where the truth is no difference."""
    rng, wrong, draws = random.Random(5), 0, 2000
    for _ in range(draws):
        noise = [rng.gauss(0, 1) for _ in range(3)]
        ours = {s: 80 + noise[s] + rng.gauss(0, 0.3) for s in range(3)}
        other = noise if paired else [rng.gauss(0, 1) for _ in range(3)]
        theirs = {s + (0 if paired else 10): 80 + other[s] + rng.gauss(0, 0.3) for s in range(3)}
        wrong += against(ours, theirs)["verdict"] != "undecided"
    # Welch's degrees of freedom are a little cautious at three seeds a side.
    assert (0.03 if paired else 0.01) <= wrong / draws <= 0.07
