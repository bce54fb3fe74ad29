"""The one place where a leaf becomes an object.

A leaf names its class in `_target_`; its other keys are the constructor's keyword arguments. Only
classes of this package and of packages in `allow_targets` are made: a store that others write to,
or a configuration from elsewhere, must not call what it likes.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from .leaf_values import misfit
from .schema import RequestError

PACKAGE = "obert_sweeps"
GROUPS = {"Encoder": "model"}  # a leaf's group, where its class is called otherwise

Made = TypeVar("Made")


def make(leaf: Mapping[str, Any], allow_targets: Sequence[str], kind: type[Made]) -> Made:
    """The object a leaf describes, which must be of class `kind`.

    Raises RequestError for a target that is not allowed, does not exist or is of another kind, for
    keys its constructor does not take or lacks, and for values of another type or that it refuses.
    """
    arguments = {str(key): value for key, value in leaf.items() if key != "_target_"}
    target = str(leaf.get("_target_"))
    module, _, name = target.rpartition(".")
    check_allowed(target, allow_targets)
    try:
        constructor = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RequestError(f"_target_ {target} cannot be found: {error}") from error
    if not (isinstance(constructor, type) and issubclass(constructor, kind)):
        raise RequestError(f"_target_ {target} is no {kind.__name__} and is not made")
    try:
        inspect.signature(constructor).bind(**arguments)
    except TypeError as error:
        raise RequestError(
            f"{target} does not fit its configuration: {error}. Its keys are"
            f" {', '.join(inspect.signature(constructor).parameters)}."
        ) from error
    if (wrong := misfit(constructor, arguments)) is not None:
        raise RequestError(_misfitting(kind, target, arguments, *wrong))
    return constructor(**arguments)


def check_allowed(target: str, allow_targets: Sequence[str]) -> None:
    """RequestError for a class, by its dotted name, that a request does not trust."""
    package = target.partition(".")[0]
    if package not in (PACKAGE, *allow_targets):
        raise RequestError(
            f"{target} is not of this package and is not made. If you trust it, say"
            f" allow_targets=[{package}]"
        )


def _misfitting(
    kind: type, target: str, arguments: Mapping[str, Any], name: str, needed: str
) -> str:
    value, group = arguments[name], GROUPS.get(kind.__name__, kind.__name__.lower())
    message = f"{group}.{name} is {value} ({target}), and it must be {needed}."
    if isinstance(value, list) and value:
        message += (
            f" One command runs one value: use {group}.{name}={value[0]}, and a command for each."
        )
    return message
