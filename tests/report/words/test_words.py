"""Numbers and verdicts as people read them."""

from __future__ import annotations

import pytest

from obert_sweeps.report import words

# As programs that call this one know them.
OF_A_CELL = (
    *("reproduced", "better", "worse", "undecided", "not_converged", "unpublished", "not_run"),
    *("blocked", "failed", "stand_in"),
)


def test_every_verdict_has_its_sign_and_kind() -> None:
    assert set(words.verdicts.SIGNS) == {*OF_A_CELL, "held", "broken"}
    assert {kind for _, kind in words.verdicts.SIGNS.values()} == {"good", "bad", "open", "none"}


def test_cells_are_counted_by_verdict_the_most_frequent_first() -> None:
    entries = [{"verdict": verdict} for verdict in ("stand_in", "not_run", "not_run")]
    assert words.verdicts.counts(entries) == {"not_run": "2 not run", "stand_in": "1 stand-in"}
    assert words.verdicts.tally(entries) == "2 not run, 1 stand-in"


@pytest.mark.parametrize(
    ("value", "metric", "table", "told"),
    [
        (None, "f1", 1, "NA"),
        (88.54, "f1", 1, "88.54"),
        (92.0, "accuracy", 5, "92.0"),  # as table 5 prints it
        (48.47, "mcc", 5, "48.47"),
        (92.0, "accuracy", 4, "92.00"),
    ],
)
def test_a_published_value_has_the_digits_of_its_table(value, metric, table, told) -> None:
    assert words.numbers.printed(value, metric, table) == told


def test_a_mean_over_fewer_tasks_says_so() -> None:
    row = {"tasks": ["a", "b", "c"], "recovery": (0.9, 2), "published_recovery": (0.95, 3)}
    assert words.methods.mean_recovery(row) == "90.0% on 2 of 3 (95.0%)"
    row["recovery"] = (None, 0)
    assert words.methods.mean_recovery(row) == "– (95.0%)"
