"""Single values as they stand in a table or a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...catalogue.cell import metric_named


def share(value: float | None) -> str:
    """A share 0..1 in per cent."""
    return "–" if value is None else f"{value * 100:.1f}%"


def printed(value: float | None, metric: str, table: int) -> str:
    """A published value with the digits the document prints; table 5 has mostly one decimal."""
    if value is None:
        return "NA"
    if unit := metric_named(metric).unit:
        return f"{value:g}{unit}"
    return f"{value:.1f}" if table == 5 and round(value, 1) == value else f"{value:.2f}"


def with_deviation(entry: Mapping[str, Any], metric: str) -> str:
    """A mean, with the deviation over seeds where there is one: 88.51±0.12."""
    sd = entry["sd"].get(metric)
    return f"{entry['measured'][metric]:.2f}" + (f"±{sd:.2f}" if sd else "")
