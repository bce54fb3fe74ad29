"""Every figure of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..facts.traces import Traces
from .curves import losses, one_shot, scores
from .groups import groups
from .layers import by_layer
from .panel import Figure
from .results import against_cost, against_sparsity, recovery


def figures(report: Mapping[str, Any], traces: Traces) -> list[Figure]:
    """Every figure that has something to show."""
    grouped = groups(report["cells"])
    drawn = [
        recovery(grouped),
        against_sparsity(grouped),
        against_cost(grouped),
        one_shot(traces),
        by_layer(grouped, traces),
        scores(grouped, traces),
        losses(grouped, traces),
    ]
    return [figure for figure in drawn if figure.panels]
