"""What a run says, told by hand: no W&B."""

from __future__ import annotations

from typing import Any

import pytest

from obert_sweeps.tracker.run_content import (
    history_row,
    report_ending,
    report_run_id,
    stage_ending,
)


def cell(name: str, verdict: str, **more: Any) -> dict[str, Any]:
    said = {"id": name, "table": 5, "finals": {"42": "aa"}, "verdict": verdict}
    return said | {"published": {}, "measured": {}} | more


REPORT = {
    "cells": [
        cell(
            "one",
            "worse",
            published={"f1": 3.0, "em": None},
            measured={"f1": 1.0},
            sd={"f1": 0.5},
            recovery=0.25,
            published_recovery=0.75,
        ),
        cell("two", "worse"),
        cell("three", "better"),
    ],
    "claims": [{"id": "c", "verdict": "held"}],
}


@pytest.mark.parametrize(
    ("result", "status", "code"),
    [
        ({"status": "done"}, "done", 0),
        ({"status": "not_converged"}, "not_converged", 0),  # a result, as in the document
        ({"status": "failed", "reason": "no such file"}, "failed", 1),
        ({"status": "interrupted"}, "interrupted", 1),
    ],
)
def test_a_run_ends_well_where_the_stage_has_a_result(
    result: dict[str, Any], status: str, code: int
) -> None:
    ending = stage_ending(result | {"sparsity": {"overall": 0.9, "layers": {"a": 0.8}}})
    assert (ending.summary["status"], ending.exit_code) == (status, code)
    assert ending.summary["sparsity"] == 0.9
    assert ending.summary.get("reason") == result.get("reason")


def test_a_report_has_each_number_under_its_head() -> None:
    ending = report_ending(REPORT, {})
    assert ending.table is not None
    rows = [dict(zip(ending.table["columns"], row, strict=True)) for row in ending.table["rows"]]
    recoveries = {"recovery": 0.25, "published_recovery": 0.75}
    first = {"cell": "one", "verdict": "worse", **recoveries}
    assert rows == [
        {**first, "metric": "f1", "measured": 1.0, "published": 3.0, "sd": 0.5},
        {**first, "metric": "em", "measured": None, "published": None, "sd": None},
    ]
    assert ending.summary["verdicts"] == {"worse": 2, "better": 1}
    assert ending.summary["claims"] == {"c": "held"}


def test_a_report_of_other_stages_is_another_and_of_other_numbers_the_same() -> None:
    first = report_run_id(REPORT)
    assert report_run_id({"cells": REPORT["cells"][::-1]}) == first
    assert report_run_id({"cells": [c | {"verdict": "x"} for c in REPORT["cells"]]}) == first
    for other in ({"finals": {"42": "bb"}}, {"id": "four"}):
        cells = [*REPORT["cells"][:2], REPORT["cells"][2] | other]
        assert report_run_id({"cells": cells}) != first


def test_a_record_s_row_has_its_own_time_and_no_counter_among_what_is_plotted() -> None:
    record = {"step": 3, "steps": 9, "epoch": 1.5, "epochs": 3, "time": 7.0, "loss": 0.5}
    row = history_row({**record, "metrics": {"f1": 80.0}})
    assert row == {
        "step": 3,
        "epoch": 1.5,
        "train/loss": 0.5,
        "eval/f1": 80.0,
        "_timestamp": 7.0,
    }
