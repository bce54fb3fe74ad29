"""The one place where a leaf becomes an object.

A leaf names its class in `_target_`; its other keys are the constructor's keyword arguments. Only
classes of this package and of packages in `allow_targets` are made: a store that others write to,
or a configuration from elsewhere, must not call what it likes.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from .schema import RequestError

PACKAGE = "obert_sweeps"


def make(leaf: Mapping[str, Any], allow_targets: Sequence[str] = ()) -> Any:
    """The object a leaf describes.

    Raises RequestError for a target that is not allowed or does not exist, for keys its
    constructor lacks, and for values it refuses.
    """
    target = str(leaf.get("_target_", ""))
    module_name, _, class_name = target.rpartition(".")
    if module_name.split(".")[0] not in (PACKAGE, *allow_targets):
        raise RequestError(
            f"_target_ '{target}' is outside this package. If you trust it, say "
            f"allow_targets=[{module_name.split('.')[0]}]"
        )
    try:
        constructor = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise RequestError(f"_target_ '{target}' cannot be imported: {error}") from error
    arguments = {key: value for key, value in leaf.items() if key != "_target_"}
    try:
        inspect.signature(constructor).bind(**arguments)
    except TypeError as error:
        raise RequestError(f"{target} does not take these keys: {error}") from error
    try:
        return constructor(**arguments)
    except (TypeError, ValueError) as error:
        raise RequestError(f"{target}: {error}") from error


def main() -> None:
    """Make each leaf of a JSON list on stdin; print what is wrong, if anything, as a JSON list.

    `run` asks this in a process of its own, since the driver imports no torch.
    """
    import json
    import sys

    request = json.load(sys.stdin)
    faults = []
    for leaf in request["leaves"]:
        try:
            make(leaf, request["allow_targets"])
        except RequestError as error:
            faults.append(str(error))
    json.dump(faults, sys.stdout)


if __name__ == "__main__":
    main()
