"""The words that all modules share."""

from __future__ import annotations

import pytest

from obert_sweeps.schema import first_line


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("disk full", "disk full"),
        ("\n no model\nat 0x1\n", "no model"),
        ("", "OSError"),
        (" \n", "OSError"),
    ],
)
def test_an_error_is_told_in_one_line(message: str, told: str) -> None:
    assert first_line(OSError(message)) == told
