"""Cells as the plots show them: in groups that compare, with names and values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...catalogue.cell import METHODS, metric_named, task_label
from ..judgement.cells import CellEntry

Groups = Mapping[str, Sequence[CellEntry]]


def groups(entries: Iterable[CellEntry]) -> dict[str, list[CellEntry]]:
    """Cells that compete with each other or show the same model at several sparsities."""
    found: dict[str, list[CellEntry]] = {}
    for entry in entries:
        table = f"Table {entry['table']}" if entry["table"] else "Own cells"
        name = f"{table}, {task_label(entry['task'])}"
        found.setdefault(name, []).append(entry)
    return found


def value(entry: CellEntry, of: str = "measured") -> float | None:
    """The primary metric; None where it was not measured, printed or is of a diverged model."""
    if of == "measured" and entry["diverged"] == entry["seeds"]:
        return None
    found: float | None = entry[of].get(entry["metric"])
    return found


def methods(entries: Iterable[CellEntry]) -> list[str]:
    """Those of the entries, each once: the document's in its order, then others."""
    found = dict.fromkeys(e["method"] for e in entries)
    return [m for m in METHODS if m in found] + [m for m in found if m not in METHODS]


def title(group: str, entries: Sequence[CellEntry]) -> str:
    """The group with its primary metric."""
    return f"{group}: {metric_named(entries[0]['metric']).label}"


def short(text: str) -> str:
    """As much as there is room for beside an axis."""
    return text if len(text) <= 20 else text[:19] + "…"
