"""Values of leaves against the annotations of constructors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest

from obert_sweeps.leaf_values import fits, in_words, misfit
from obert_sweeps.make import make
from obert_sweeps.method.base import Method
from obert_sweeps.model.base import Encoder
from obert_sweeps.schema import RequestError

OBERT = "obert_sweeps.method.obert.OBert"
BERT = "obert_sweeps.model.bert.Bert"


@pytest.mark.parametrize(
    ("value", "hint", "right"),
    [
        (1, int, True),
        (1.0, int, False),
        (True, int, False),
        ("1", int, False),
        (1, float, True),
        (True, float, False),
        ([1.0], float, False),
        (1, bool, False),
        (None, str, False),
        (None, str | None, True),
        ({"block4": 32}, int | Mapping[str, int], True),
        ({"block4": "32"}, int | Mapping[str, int], False),
        (["a"], Sequence[str], True),
        ("a", Sequence[str], False),
        (["a", 1], list[str], False),
        ([{"a": None}], Sequence[Mapping[str, Any]], True),
        ("glbal", Literal["global", "tensor"], True),
        (3, Literal["global", "tensor"], False),
        ("x", object, True),
        ("x", "a class of one's own", True),
    ],
)
def test_fits(value: Any, hint: Any, right: bool) -> None:
    assert fits(value, hint) == right


def test_in_words() -> None:
    assert in_words(int | Mapping[str, int]) == (
        "a whole number or keys with values, each a whole number"
    )
    assert in_words(str | None) == "text or null"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (
            {"damp": [1e-7, 1e-5]},
            "method.damp is .*must be a number. One command runs one value: use method.damp=1e-07",
        ),
        ({"num_grads": 64.0}, "method.num_grads is 64.0 .*must be a whole number"),
        ({"damp": "small"}, "method.damp is small"),
        ({"fisher_block_size": {"2of4": "all"}}, "a whole number or keys with values"),
        ({"scope": "glbal"}, "Choose one of: global, tensor"),  # the constructor's own word
    ],
)
def test_make_names_the_key(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        make({"_target_": OBERT, **keys}, [], Method)


def test_a_models_key_is_called_as_the_request_calls_it() -> None:
    with pytest.raises(RequestError, match="model.name is 3"):
        make({"_target_": BERT, "hub": "a/b", "name": 3}, [], Encoder)


def test_annotations_that_cannot_be_read_are_passed_over() -> None:
    class Odd:
        def __init__(self, *, key: Unknown) -> None: ...  # noqa: F821

    assert misfit(Odd, {"key": 1}) is None
