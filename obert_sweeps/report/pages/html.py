"""report.html: one file that needs nothing else, opens offline and prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ...catalogue.cell import method_label, metric_named, primary_metric
from ...catalogue.layouts import Layout, Slot, layouts
from ...catalogue.tables import cell_named
from .. import words
from ..facts.traces import Traces
from ..judgement.fairness import fairness
from ..pictures.panel import INK, mark
from ..pictures.timeline import timeline
from .links import RunLink, no_run

_KIND_COLOURS = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#a08000", "#8c8c8c"),
    *("#7b5ea7", "#44aa99", "#882255", "#6699cc"),
)


def html(report: Mapping[str, Any], traces: Traces | None = None, run: RunLink = no_run) -> str:
    """Render the report. Plots are drawn, and matplotlib imported, only where traces are given.

    Links to stages are relative to STORE/report/; `run` gives the W&B address of a stage.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    engine = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    engine.globals.update(words=words, INK=INK, mark_of=mark, run=run)
    engine.globals.update(metric_named=metric_named, method_label=method_label)
    engine.globals["parts"] = engine.get_template("parts.html.j2").module
    entries = {entry["id"]: entry for entry in report["cells"]}
    tables = {entry["table"] for entry in report["cells"]}
    spans = traces.spans if traces is not None else []
    return engine.get_template("report.html.j2").render(
        report=report,
        tables=[_layout(layout, entries) for layout in layouts() if layout.table in tables],
        own=[entry for entry in report["cells"] if entry["table"] == 0],
        figures=_figures(report, traces),
        given=fairness(report),
        timeline=timeline(spans),
        kinds=_colours(span.kind for span in spans),
        tally=Counter(entry["verdict"] for entry in report["cells"]).most_common(),
    )


def _figures(report: Mapping[str, Any], traces: Traces | None) -> list[Any]:
    if traces is None:
        return []
    from ..pictures.figures import figures

    return figures(report, traces)


def _colours(kinds: Iterable[str]) -> dict[str, str]:
    """A colour for each kind of stage; of more kinds than colours some share one."""
    names = list(dict.fromkeys(kinds))
    return {name: _KIND_COLOURS[i % len(_KIND_COLOURS)] for i, name in enumerate(names)}


def _layout(layout: Layout, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    rows = [[_slot(slot, entries) for slot in row] for row in layout.rows]
    shown = [entry for entry in entries.values() if entry["table"] == layout.table]
    return {
        "number": layout.table,
        "title": layout.title,
        "caption": layout.caption,
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
        **dict.fromkeys(("bands", "recovery", "rank"), ""),
    }
    if entry is not None:
        missing = [entry["not_measured"][m] for m in slot.metrics if m in entry["not_measured"]]
        finals = list(entry["finals"].values()) if entry["seeds"] else []
        found |= {
            "measured": words.cells.measured(entry, slot.metrics),
            "missing": missing[0] if missing else None,
            "verdict": _verdict_of(slot, entry),
            "bands": words.cells.bands(entry, slot.metrics),
            "final": finals[0] if finals else None,
        }
        pruned = entry["method"] != "dense" and entry["seeds"]
        if pruned and primary_metric(entry["task"]) in slot.metrics:
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
    sign, kind = words.cells.MARKS[token]
    return {"sign": sign, "kind": kind, "label": label}
