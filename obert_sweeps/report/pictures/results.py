"""Plots of the report's own numbers: recovery, accuracy against sparsity and against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ...catalogue.cell import method_label
from ..judgement.cells import CellEntry
from .groups import Groups, methods, short, title, value
from .marks import Mark, mark
from .panel import INK, Figure, Panel, panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def recovery(groups: Groups) -> Figure:
    """Share of the dense model that each method keeps, ours filled above the document's hollow."""
    tables: dict[str, dict[str, list[CellEntry]]] = {}
    for name, entries in groups.items():
        table, task = name.split(", ")
        for entry in entries:
            if entry["method"] != "dense" and entry["recovery"] is not None:
                row = f"{task} {entry['variant'] or ''}".strip()
                tables.setdefault(table, {}).setdefault(row, []).append(entry)
    panels: list[Panel] = []
    for table, rows in tables.items():
        text = "; ".join(
            f"{row}: "
            + ", ".join(f"{method_label(e['method'])} {100 * e['recovery']:.1f} %" for e in entries)
            for row, entries in rows.items()
        )
        height = 0.9 + 0.3 * len(rows)
        draw = partial(_draw_recovery, rows=rows)
        panels.append(panel(f"r{len(panels)}", table, text, draw, height, 1.35))
    return Figure(
        "recovery",
        "Recovery",
        "Share of the dense model that each method keeps. Filled: here; hollow: the document.",
        panels,
        methods(e for rows in tables.values() for entries in rows.values() for e in entries),
    )


def _draw_recovery(axes: Axes, rows: Mapping[str, Sequence[CellEntry]]) -> None:
    for height, entries in enumerate(reversed([*rows.values()])):
        for entry in entries:
            _point(axes, 100 * entry["recovery"], height + 0.15, mark(entry["method"]))
            if (theirs := entry["published_recovery"]) is not None:
                _point(axes, 100 * theirs, height - 0.15, mark(entry["method"]), False)
    axes.set_yticks(range(len(rows)), [short(row) for row in reversed([*rows])])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.axvline(100, color=INK, linewidth=0.6, linestyle=":")
    axes.grid(axis="x")
    axes.set_xlabel("% of the dense model", labelpad=2)


def against_sparsity(groups: Groups) -> Figure:
    """Scores over the share of weights pruned, ours filled beside the document's hollow."""
    panels: list[Panel] = []
    shown: list[CellEntry] = []
    for name, entries in groups.items():
        points = [e for e in entries if value(e) is not None]
        if not any(e["method"] != "dense" for e in points):
            continue
        shown += [e for e in entries if e in points or value(e, "published") is not None]
        text = ", ".join(
            f"{method_label(e['method'])} {value(e):.2f} at {100 * e['sparsity']:g} %"
            for e in points
        )
        draw = partial(_draw_against_sparsity, entries=entries)
        panels.append(panel(f"s{len(panels)}", title(name, entries), text, draw))
    return Figure(
        "against-sparsity",
        "Accuracy against sparsity",
        "Filled: here; hollow: the document; line: the dense model here.",
        panels,
        methods(e for e in shown if e["method"] != "dense"),
    )


def _draw_against_sparsity(axes: Axes, entries: Sequence[CellEntry]) -> None:
    _dense_line(axes, entries)
    for e in entries:
        for of, shift, filled in (("measured", 0.7, True), ("published", -0.7, False)):
            if (y := value(e, of)) is not None:
                _point(axes, 100 * e["sparsity"] + shift, y, mark(e["method"]), filled)
    for (method, _, _), points in _by_level(entries).items():
        if len(points) > 1:
            xy = sorted(points.items())
            axes.plot(*zip(*xy, strict=True), color=mark(method).colour, linewidth=0.8)
    axes.set_xlabel("% of weights pruned", labelpad=2)
    axes.set_xlim(-5, 105)
    axes.grid()


def _by_level(entries: Sequence[CellEntry]) -> dict[tuple[str, str, str], dict[float, float]]:
    """(method, model, pattern) -> per cent pruned -> measured, where a line may join the points."""
    found: dict[tuple[str, str, str], dict[float, float]] = {}
    for e in entries:
        if e["method"] != "dense" and (y := value(e)) is not None:
            key = (e["method"], e["model"], e["pattern"])
            found.setdefault(key, {})[100 * e["sparsity"] + 0.7] = y
    return found


def against_cost(groups: Groups) -> Figure:
    """Scores over what the method took beyond the dense model: GPU hours where all used one."""
    panels: list[Panel] = []
    shown: list[CellEntry] = []
    for name, entries in groups.items():
        pruned = [e for e in entries if e["method"] != "dense" and value(e) is not None]
        costly = [e for e in pruned if (e["effort"]["cpu_seconds"] or 0) > 0]
        if not costly:
            continue
        shown += costly
        gpu = all(e["effort"]["gpu_seconds"] for e in costly)
        key, unit, scale = (
            ("gpu_seconds", "GPU hours", 3600) if gpu else ("cpu_seconds", "CPU s", 1)
        )
        points = [
            (e["method"], e["effort"][key] / scale, y)
            for e in costly
            if (y := value(e)) is not None
        ]
        text = ", ".join(f"{method_label(m)} {y:.2f} for {x:.3g} {unit}" for m, x, y in points)
        draw = partial(_draw_against_cost, entries=entries, points=points, unit=unit)
        panels.append(panel(f"c{len(panels)}", title(name, entries), text, draw))
    return Figure(
        "against-cost",
        "Accuracy against cost",
        "What each method's stages took beyond its row's dense model, upstream pruning included.",
        panels,
        methods(shown),
    )


def _draw_against_cost(
    axes: Axes,
    entries: Sequence[CellEntry],
    points: Sequence[tuple[str, float, float]],
    unit: str,
) -> None:
    _dense_line(axes, entries)
    for method, x, y in points:
        _point(axes, x, y, mark(method))
    axes.set_xlim(0, 1.08 * max(x for _, x, _ in points))
    axes.set_xlabel(f"{unit} beyond the dense model", labelpad=2)
    axes.grid()


def _dense_line(axes: Axes, entries: Sequence[CellEntry]) -> None:
    for entry in entries:
        if entry["method"] == "dense" and (y := value(entry)) is not None:
            axes.axhline(y, color=INK, linewidth=0.8, linestyle=":")


def _point(axes: Axes, x: float, y: float, style: Mark, filled: bool = True) -> None:
    face = style.colour if filled else "none"
    axes.plot([x], [y], marker=style.marker, color=style.colour, markerfacecolor=face, linestyle="")
