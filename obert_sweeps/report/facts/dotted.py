"""Nested plain data by dotted keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def dotted(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} is {"a.b": 1}; list items by index, empty containers as they are."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, part in items:
        flat |= dotted(part, f"{prefix}.{name}" if prefix else str(name))
    return flat or {prefix: value}
