"""Which versions of the mathematics made a stage: results of two versions are not of one kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KEYS = ("version", "task_version", "method_version")  # of an identity; absent: the first


def versions(stage: Mapping[str, Any]) -> dict[str, int]:
    """Of its kind of stage, its task and its method, by their keys in `identity`."""
    known = stage.get("identity") or {}
    return {key: known.get(key, 1) for key in _KEYS}
