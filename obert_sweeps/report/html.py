"""report.html: one file that needs nothing else, opens offline and prints."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from ..catalogue.cell import METRICS
from ..catalogue.layouts import Entry, Layout, layouts
from ..catalogue.tables import cells as catalogue_cells
from . import words


def html(report: Mapping[str, Any], *, plots: bool = True) -> str:
    """Render the report. `plots` draws with matplotlib, which is imported only then.

    Links to stages are relative to STORE/report/.
    """
    from jinja2 import Environment, StrictUndefined

    engine = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    engine.globals.update(words=words, METRICS=METRICS)
    template = engine.from_string(files(__package__).joinpath("report.html.j2").read_text("utf-8"))
    entries = {entry["id"]: entry for entry in report["cells"]}
    tables = {entry["table"] for entry in report["cells"]}
    return template.render(
        report=report,
        tables=[_layout(layout, entries) for layout in layouts() if layout.table in tables],
        own=[entry for entry in report["cells"] if entry["table"] == 0],
        figures=_figures(report) if plots else [],
        tally=words.tally(report["cells"]),
    )


def _figures(report: Mapping[str, Any]) -> list[dict[str, str]]:
    from .plots import recovery_figure

    figure = recovery_figure(report)
    return [figure] if figure else []


def _layout(layout: Layout, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    rows = [[_place(place, entries) for place in row] for row in layout.rows]
    shown = [entry for entry in entries.values() if entry["table"] == layout.table]
    return {
        "number": layout.table,
        "title": layout.title,
        "caption": layout.caption,
        "head": layout.head,
        "rows": rows,
        "entries": shown,
    }


def _place(place: Entry, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the template shows in one place of a table."""
    if place.cell is None:
        return {"text": place.text, "entry": None}
    entry = entries.get(place.cell)
    cell = next(c for c in catalogue_cells() if c.id == place.cell)
    found: dict[str, Any] = {
        "text": "",
        "id": place.cell,
        "entry": entry,
        "published": words.published(cell.listing(), place.metrics),
        "note": cell.note,
        "measured": None,
        "missing": None,
        "verdict": None,
        "recovery": "",
    }
    if entry is not None:
        found["measured"] = words.measured(entry, place.metrics)
        missing = [entry["not_measured"][m] for m in place.metrics if m in entry["not_measured"]]
        found["missing"] = missing[0] if missing else None
        found["verdict"] = _verdict_of(place, entry)
        found["recovery"] = words.recovery(entry) if entry["method"] != "dense" else ""
        if "f1" not in place.metrics and len(place.metrics) == 1 and METRICS[place.metrics[0]].unit:
            found["recovery"] = ""  # a size or a speed has none
    return found


def _verdict_of(place: Entry, entry: Mapping[str, Any]) -> dict[str, str] | None:
    """The cell's verdict, or the metric's own where the place shows one metric of several."""
    token, label = entry["verdict"], entry["label"]
    alone = place.metrics[0] if len(place.metrics) == 1 else None
    if alone in entry["by_metric"] and len(entry["by_metric"]) > 1:
        token = label = entry["by_metric"][alone]["verdict"]
    elif alone in entry["not_measured"]:
        return None
    sign, kind = words.MARKS[token]
    return {"sign": sign, "kind": kind, "label": label}
