"""Whether a leaf's plain value is what the constructor's annotation says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    NoneType: "null",
}


def misfit(constructor: type, arguments: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first argument whose value is none of its annotation's, and what it must be; or None.

    What is annotated with other than plain data is passed over.
    """
    try:
        hints = get_type_hints(constructor.__init__)  # type: ignore[misc]
    except (NameError, TypeError):  # names that are there for a type checker alone
        return None
    for key, value in arguments.items():
        if not fits(value, hints.get(key, Any)):
            return key, in_words(hints[key])
    return None


def fits(value: Any, hint: Any) -> bool:
    """Whether plain data is of a type: numbers are not words, true is no number, 1 is a float."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return any(fits(value, one) for one in inner)
    if kind is Literal:  # which words they may be, the constructor says
        return isinstance(value, tuple(type(word) for word in inner))
    if kind in WORDS:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number if kind is float else type(value) is kind
    if kind in (list, Sequence):
        items = isinstance(value, list | tuple)
        return items and (not inner or all(fits(one, inner[0]) for one in value))
    if kind in (dict, Mapping):
        keys = isinstance(value, Mapping)
        return keys and (not inner or all(fits(one, inner[1]) for one in value.values()))
    return True


def in_words(hint: Any) -> str:
    """What a value of a type is, for people."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return " or ".join(in_words(one) for one in inner)
    if kind is Literal:
        return " or ".join(str(word) for word in inner)
    if kind in (list, Sequence):
        return "a list" + (f", each {in_words(inner[0])}" if inner else "")
    if kind in (dict, Mapping):
        return "keys with values" + (f", each {in_words(inner[1])}" if inner else "")
    return WORDS.get(kind, "what its constructor takes")
