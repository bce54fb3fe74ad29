"""What stands beside an answer, on stderr."""

from __future__ import annotations

import pytest

from obert_sweeps.cli.answer import tell_blocked


def test_blocked_cells_are_counted_by_reason(capsys: pytest.CaptureFixture[str]) -> None:
    tell_blocked([("no data", "t1/a"), ("no model", "t1/b"), ("no data", "t1/c")])
    said = capsys.readouterr().err.splitlines()
    assert said == ["blocked, 2 cells: no data", "blocked, 1 cell: no model"]
