"""Commands to type again read as what they were made from."""

from __future__ import annotations

import shlex

import pytest

from obert_sweeps.cli.answer import typed
from obert_sweeps.request.read import read


@pytest.mark.parametrize(
    "store",
    [
        "/home/me/runs",
        "/tmp/my runs",
        "/tmp/größe",
        "/tmp/it's",
        "/tmp/a=b,c",
        "/tmp/$x",
        "/a\\'b\\",
    ],
)
def test_an_override_survives_the_shell_and_hydra(store) -> None:
    (word,) = shlex.split(typed("store", store))
    assert read([word]).request.store == store


def test_a_plain_one_is_left_plain() -> None:
    assert typed("store", "/home/me/runs") == "store=/home/me/runs"
