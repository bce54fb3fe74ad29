"""Where published values are from, what wrote the report and of when it is, in words."""

from __future__ import annotations

from collections.abc import Mapping


def said(origin: Mapping[str, str | None]) -> str:
    """Without a full stop."""
    newest = f"; newest result: {origin['newest_result']}" if origin["newest_result"] else ""
    return f"Published values: {origin['published']}. Written by {origin['program']}{newest}"
