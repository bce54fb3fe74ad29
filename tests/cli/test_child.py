"""What is asked of a process that has torch, and what is said when it dies."""

from __future__ import annotations

import pytest

from obert_sweeps.cli.child import ask
from obert_sweeps.cli.verb import doctor


def test_a_child_answers_what_it_is_told() -> None:
    assert ask("-c", "print(input()[::-1])", said="abc") == "cba\n"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os; os._exit(3)", "no message"),
        ("import sys; sys.exit('a\\nb')", "b"),
    ],
)
def test_a_child_that_dies_is_a_finding_of_the_doctors(
    monkeypatch: pytest.MonkeyPatch, code: str, says: str
) -> None:
    monkeypatch.setattr(doctor, "ask", lambda *_: ask("-c", code))
    for row in (doctor.devices(), *doctor.engines()):
        assert (row["ok"], row["found"], row["mend"]) == (False, says, doctor.INSTALL)
