"""Figures of the report, as SVG text. The only module that imports matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ..catalogue.cell import METHODS, TASKS

_COLOURS = {  # distinguishable without red and green; markers tell them apart in grey too
    "magnitude": ("#999999", "s"),
    "obert": ("#0072b2", "o"),
    "l0": ("#e69f00", "v"),
    "movement": ("#56b4e9", "^"),
    "soft_movement": ("#009e73", "<"),
    "platon": ("#d55e00", "D"),
    "lottery": ("#cc79a7", "P"),
    "prune_ofa": ("#8b6f00", "X"),
}


def recovery_figure(report: Mapping[str, Any]) -> dict[str, str] | None:
    """Recovery measured (filled) above the document's (hollow), a line for each row of a table.

    Returns {"svg", "title", "text"}; None when no pruned cell has a measured recovery.
    """
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for entry in report["cells"]:
        if entry["method"] != "dense" and entry["recovery"] is not None:
            name = f"T{entry['table']} {TASKS.get(entry['task'], entry['task'])} {entry['variant']}"
            rows.setdefault(name, []).append(entry)
    if not rows:
        return None

    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "report", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(8, 1.2 + 0.42 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        labelled: set[str] = set()
        for height, entries in enumerate(reversed(rows.values())):
            for entry in entries:
                method = entry["method"]
                colour, marker = _COLOURS.get(method, ("#000000", "*"))
                label = METHODS.get(method, method) if method not in labelled else None
                labelled.add(method)
                style: dict[str, Any] = {"marker": marker, "linestyle": "", "color": colour}
                axes.plot(100 * entry["recovery"], height + 0.15, label=label, **style)
                if entry["published_recovery"] is not None:
                    theirs = 100 * entry["published_recovery"]
                    axes.plot(theirs, height - 0.15, markerfacecolor="none", **style)
        axes.set_yticks(range(len(rows)), list(reversed(rows)))
        axes.axvline(100, color="#bbbbbb", linewidth=0.8)
        axes.grid(axis="x", color="#eeeeee")
        axes.set_axisbelow(True)
        axes.set_xlabel("% of the own dense model; filled: measured here, hollow: the document")
        axes.spines[["top", "right", "left"]].set_visible(False)
        figure.legend(loc="outside upper center", ncols=4, frameon=False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    svg = out.getvalue()
    return {
        "svg": svg[svg.index("<svg") :],
        "title": "Recovery, measured and published",
        "text": "Share of the dense model each method keeps, by row of the tables: "
        + "; ".join(
            f"{name}: "
            + ", ".join(
                f"{METHODS.get(e['method'], e['method'])} {100 * e['recovery']:.1f} %" for e in row
            )
            for name, row in rows.items()
        ),
    }
