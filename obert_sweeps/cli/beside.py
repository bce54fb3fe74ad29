"""What a store holds beside what a request selects, and the requests that select it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from ..plan.dag import Plan
from ..store import Store
from .answer import typed


def other_stages(plan: Plan, store: Store) -> list[str]:
    """Ids of the store's stages that no selected cell needs."""
    wanted = {stage.id for stage in plan.wanted()}
    return [stage for stage in store.ids() if stage not in wanted]


def other_cells(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """The store's records of complete cells that are not selected, one's own cells first."""
    finals = {final for cell in plan.selected() for final in cell.finals.values()}
    found = [r for r in store.cells() if r.get("stages") and r["stages"][-1] not in finals]
    return sorted(found, key=lambda record: int(record.get("table", 0)))


def request_of(
    record: Mapping[str, Any], store: Store, others: Iterable[Mapping[str, Any]] = ()
) -> str:
    """What to type after a verb to select a recorded cell, with all seeds that `others` has of it.

    Of the document's cells a record of before does not say the preset.
    """
    where, words = typed("store", store.address), _selection(record)
    alike = (other for other in others if _selection(other) == words)
    seeds = sorted({int(one["seed"]) for one in (record, *alike)})
    words.append(f"seeds={seeds}".replace(" ", ""))
    return f"{where} {shlex.join(words)}"


def _selection(record: Mapping[str, Any]) -> list[str]:
    """The words of a request that selects a cell, but for its seeds."""
    if record.get("table", 0):
        of_all = record.get("request", ["preset=…"])
        own = [line for line in record.get("settings", []) if line not in of_all]
        groups = dict.fromkeys(line.partition(".")[0] for line in own)
        chosen = [f"{group}={record[group]}" for group in groups if group in record]
        return [f"cells={record['id']}", *of_all, *chosen, *own]
    words = ["table=0", *(f"{group}={record[group]}" for group in ("task", "model", "method"))]
    settings = list(record.get("settings", []))
    if level := record.get("sparsity"):
        if not any(setting.startswith("sparsity=") for setting in settings):
            is_2of4 = str(record["id"]).endswith("/2of4")
            words.append(f"sparsity={'2of4' if is_2of4 else 'unstructured'}")
        words.append(f"sparsity.level={level:g}")
    return words + settings
