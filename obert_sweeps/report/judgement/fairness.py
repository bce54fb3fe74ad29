"""What each method was given, beside what it gave: one row for each method of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..facts.effort import QUANTITIES
from ..facts.means import mean_of_all, mean_of_known
from .audit import GROUP
from .cells import CellEntry


def fairness(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Means over the tasks of each method that is not blocked; None where one is not known.

    Keys: table, method, model, variant, tasks, knobs (the audit's group, None if it has none),
    effort (its quantities), and recovery and published_recovery: (mean, over how many tasks). A
    diverged model has none, here or in print; where both are there, both means are of such tasks.
    """
    groups: dict[tuple[Any, ...], list[CellEntry]] = {}
    for entry in report["cells"]:
        if entry["verdict"] != "blocked":
            key = tuple(entry[name] for name in GROUP)
            groups.setdefault(key, []).append(entry)
    audited = {tuple(group[n] for n in GROUP): group for group in report["audit"]["methods"]}
    return [
        {
            **dict(zip(GROUP, key, strict=True)),
            "tasks": [entry["task"] for entry in entries],
            "knobs": audited.get(key),
            **_recoveries(entries),
            "effort": {q: mean_of_all(e["effort"][q] for e in entries) for q in QUANTITIES},
        }
        for key, entries in groups.items()
    ]


def _recoveries(entries: Sequence[CellEntry]) -> dict[str, tuple[float | None, int]]:
    kinds = ("recovery", "published_recovery")
    both = [entry for entry in entries if all(entry[kind] is not None for kind in kinds)]
    return {kind: mean_of_known(entry[kind] for entry in both or entries) for kind in kinds}
