"""Words of the command line: texts that Hydra's grammar would read as something else."""

from __future__ import annotations

import shlex

import pytest

from obert_sweeps.request.overrides import parse, spelled
from obert_sweeps.schema import RequestError

TEXTS = ["12e4", "true", "1_0", "a=b", "a,b", "é ü", "~x", "it's", "a#b;c", "[a]", r"a\b", " a"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("key", ["store", "stage", "data_root", "model.path"])
def test_ids_and_paths_are_taken_as_typed(key: str, text: str) -> None:
    (override,) = parse([f"{key}={text}"])
    assert (override.key_or_group, override.value()) == (key, text)
    (again,) = parse([str(override.input_line)])  # as a launch file says it
    assert again.value() == text


@pytest.mark.parametrize("text", TEXTS)
def test_a_spelled_text_is_read_as_that_text(text: str) -> None:
    (override,) = parse([f"cells={spelled(text)}"])
    assert override.value() == text


@pytest.mark.parametrize("text", ["é", "a,b", "a=b", "it's", "~x;", '"', "x$é`!"])
def test_what_cannot_be_read_is_refused_with_words_that_a_shell_and_hydra_read(text: str) -> None:
    with pytest.raises(RequestError, match="twice") as error:
        parse([f"cells={text}"])
    (word,) = shlex.split(str(error.value).rpartition(": ")[2])
    assert parse([word])[0].value() == text


def test_what_is_plain_stays_plain() -> None:
    assert spelled("s3://bucket/a b/runs") == "s3://bucket/a b/runs"
    assert parse(["store=runs"])[0].input_line == "store=runs"
