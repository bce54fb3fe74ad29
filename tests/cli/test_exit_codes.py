"""Exit codes, whoever reads the answer."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LS = ["ls", "table=5"]


def code_of(arguments: list[str], **streams: object) -> int:
    command = [sys.executable, "-m", "obert_sweeps", *arguments]
    return subprocess.run(command, **streams).returncode  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (LS, 0),
        ([*LS, "format=json"], 0),
        (["--help"], 0),
        (["ls", "table=9"], 2),
        (["status", "cells=t5/sst2/bert_base/dense", "store=/nothing/here"], 0),
    ],
)
def test_a_reader_that_has_left_changes_no_exit_code(arguments, code) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert code_of(arguments, stdout=writer, stderr=writer) == code
    finally:
        os.close(writer)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], LS])
def test_a_full_stdout_is_not_blamed_on_the_store(arguments) -> None:
    command = [sys.executable, "-m", "obert_sweeps", *arguments]
    with open("/dev/full", "w") as full:
        told = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert told.returncode == 1
    assert "stdout: No space left on device" in told.stderr and "store" not in told.stderr
