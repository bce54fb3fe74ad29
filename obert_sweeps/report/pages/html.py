"""report.html: one file that needs nothing else, opens offline and prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...amounts import duration
from ...catalogue.cell import method_label, metric_named
from ...catalogue.layouts import layouts
from .. import words
from ..facts.traces import Traces
from ..judgement.fairness import fairness
from ..pictures.figures import figures
from ..pictures.marks import mark
from ..pictures.panel import INK
from ..pictures.timeline import timeline
from .links import RunLink, no_run
from .printed import printed_table


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
    engine.globals.update(words=words, duration=duration, INK=INK, mark_of=mark, run=run)
    engine.globals.update(metric_named=metric_named, method_label=method_label)
    engine.globals["parts"] = engine.get_template("parts.html.j2").module
    entries = {entry["id"]: entry for entry in report["cells"]}
    tables = {entry["table"] for entry in report["cells"]}
    return engine.get_template("report.html.j2").render(
        report=report,
        tables=[printed_table(one, entries) for one in layouts() if one.table in tables],
        own=[entry for entry in report["cells"] if entry["table"] == 0],
        figures=figures(report, traces) if traces is not None else [],
        given=fairness(report),
        timeline=timeline(traces.spans) if traces is not None else None,
        tally=words.verdicts.counts(report["cells"]),
    )
