"""What a leaf says of values that no source gives, and which cells that concerns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..catalogue.cell import Cell


def concerning(
    assumed: Mapping[str, Any] | None, cell: Cell, given: Iterable[str] = ()
) -> dict[str, str]:
    """Key -> reason, of the assumptions of a method's or schedule's leaf that a cell rests on.

    A reason is a text, or `{for: [names], why: text}`, which concerns only cells whose task, model,
    method or pattern is named. `given`: keys that have their value from elsewhere, as the method's
    from a schedule with a source of its own; what is assumed of these, or of parts of them, is not
    taken.
    """
    names = {cell.task, cell.model, cell.method, cell.pattern}
    found = {}
    for key, reason in (assumed or {}).items():
        if key.split(".")[0] in given:
            continue
        if isinstance(reason, str):
            found[key] = reason
        elif names.intersection(reason["for"]):
            found[key] = reason["why"]
    return found
