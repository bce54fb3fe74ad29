"""The document's tables as it prints them, with what was measured here in their places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...catalogue.layouts import Layout, Slot
from ...catalogue.tables import cell_named
from .. import words

_OF_SPEEDUPS = (
    " A speed-up is over the dense model timed in turn in the same run; throughputs of two rows are"
    " of two runs, so their ratio may be another."
)


def printed_table(layout: Layout, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A table of the document with what was measured in each of its places.

    `entries` are the report's cells by id; a cell that is not among them was not selected.
    """
    rows = [[_slot(slot, entries) for slot in row] for row in layout.rows]
    shown = [entry for entry in entries.values() if entry["table"] == layout.table]
    timed = any(entry["measured"].get("speedup") for entry in shown)
    return {
        "number": layout.table,
        "title": layout.title,
        "caption": layout.caption + (_OF_SPEEDUPS if timed else ""),
        "head": layout.head,
        "rows": rows,
        "entries": shown,
    }


def _slot(slot: Slot, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the template shows in one slot of a table."""
    if slot.cell is None:
        return {"text": slot.text, "entry": None}
    entry = entries.get(slot.cell)
    cell = cell_named(slot.cell)
    found: dict[str, Any] = {
        "text": "",
        "id": slot.cell,
        "entry": entry,
        "published": words.cells.published(cell.listing(), slot.metrics),
        "note": cell.note,
        **dict.fromkeys(("measured", "missing", "verdict", "final")),
        **dict.fromkeys(("differences", "recovery", "rank"), ""),
    }
    if entry is not None:
        missing = [entry["not_measured"][m] for m in slot.metrics if m in entry["not_measured"]]
        finals = list(entry["finals"].values()) if entry["seeds"] else []
        found |= {
            "measured": words.cells.measured(entry, slot.metrics),
            "missing": missing[0] if missing else None,
            "verdict": _verdict_of(slot, entry),
            "differences": words.cells.differences(entry, slot.metrics),
            "final": finals[0] if finals else None,
        }
        pruned = entry["method"] != "dense" and entry["seeds"]
        if pruned and entry["metric"] in slot.metrics:
            found["recovery"] = words.cells.recovery(entry)
            found["rank"] = words.cells.rank(entry) if entry["stand_in"] else ""
    return found


def _verdict_of(slot: Slot, entry: Mapping[str, Any]) -> dict[str, str] | None:
    """The cell's verdict, or the metric's own where the slot shows one metric of several."""
    token, label = entry["verdict"], entry["label"]
    alone = slot.metrics[0] if len(slot.metrics) == 1 else None
    if alone in entry["by_metric"] and len(entry["by_metric"]) > 1:
        token = label = entry["by_metric"][alone]["verdict"]
    elif alone in entry["not_measured"]:
        return None
    sign, kind = words.verdicts.SIGNS[token]
    return {"sign": sign, "kind": kind, "label": label}
