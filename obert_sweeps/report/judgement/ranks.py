"""Where a cell stands among the pruned cells of its row, on the primary metric: 1 is best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from ...catalogue.cell import Cell, primary_metric
from ...catalogue.tables import document_cells
from ..facts.outcome import CellOutcome
from ..facts.views import CellView


class Rank(NamedTuple):
    """Where of how many; equals share a rank and are `tied`, a row of one has none."""

    rank: int | None
    of: int | None
    tied: bool


NO_RANK = Rank(None, None, False)
Ranks = dict[str, Rank]  # by cell id


def measured_ranks(plans: Mapping[str, CellView], outcomes: Mapping[str, CellOutcome]) -> Ranks:
    """Ranks of the cells that are finished; those with a diverged seed come last."""
    return _ranks(
        (
            plan.cell,
            None if outcomes[name].diverged else outcomes[name].mean(plan.metric),
        )
        for name, plan in plans.items()
        if outcomes[name].finished
    )


@cache
def published_ranks() -> Ranks:
    """Ranks by printed values: what does not converge comes last, what is not given has none."""
    printed = [(cell, cell.published.get(primary_metric(cell.task))) for cell in document_cells()]
    return _ranks((cell, v) for cell, v in printed if v is not None or not cell.converges)


def _ranks(scores: Iterable[tuple[Cell, float | None]]) -> Ranks:
    rows: dict[Any, dict[str, float | None]] = {}
    for cell, score in scores:
        if cell.method != "dense":
            rows.setdefault(cell.row, {})[cell.id] = score
    return {name: _rank(name, row) for row in rows.values() for name in row}


def _rank(name: str, row: Mapping[str, float | None]) -> Rank:
    if len(row) < 2:
        return Rank(None, len(row), False)
    own, values = row[name], list(row.values())
    better = sum(v is not None and (own is None or v > own) for v in values)
    return Rank(1 + better, len(row), values.count(own) > 1)
