"""Curves that the stages left behind: over levels pruned at once, and over epochs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from ...catalogue.cell import TASKS, method_label, metric_named, primary_metric, task_label
from ..facts.one_shot import Points, Setting
from ..facts.traces import Line, Traces
from ..judgement.cells import CellEntry
from .groups import Groups, methods, title
from .marks import mark
from .panel import Figure, Panel, panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHES = ("-", "--", ":", "-.")


def one_shot(traces: Traces) -> Figure:
    """Scores over levels pruned at once, a panel a dense model and pattern."""
    panels: list[Panel] = []
    drawn: dict[str, None] = {}
    alike = Counter(curve[:3] for curve in traces.one_shot)
    for curve, lines in traces.one_shot.items():
        if all(len(points) < 3 for points in lines.values()):
            continue  # the dense model and one level: no curve
        drawn |= dict.fromkeys(line.method for line in lines)
        task, model, pattern, start = curve
        metric = metric_named(primary_metric(task)).label if task in TASKS else ""
        text = "; ".join(
            f"{f'{method_label(line.method)} {line.said}'.strip()} "
            + ", ".join(f"{y:.1f} at {100 * x:g} %" for x, y in sorted(points.items()))
            for line, points in lines.items()
        )
        heading = f"{task_label(task)}, {model.replace('_', ' ')}, {pattern}: {metric}"
        if alike[curve[:3]] > 1:  # another preset's, or another seed's
            heading += f", from {start[:8]}"
        draw = partial(_draw_one_shot, lines=lines)
        panels.append(panel(f"o{len(panels)}", heading, text, draw))
    return Figure(
        "one-shot",
        "One-shot curves",
        "Pruned at once and not trained afterwards; every such stage in the store. Dashes tell "
        "settings of one method apart.",
        panels,
        list(drawn),
    )


def _draw_one_shot(axes: Axes, lines: Mapping[Setting, Points]) -> None:
    dashes = _dashes(lines)
    for line, points in lines.items():
        xy = sorted((100 * level, y) for level, y in points.items())
        style = mark(line.method)
        axes.plot(
            *zip(*xy, strict=True),
            color=style.colour,
            marker=style.marker,
            linestyle=dashes[line],
            label=line.said,
        )
    if any(line.said for line in lines):
        told = [drawn for drawn in axes.lines if not str(drawn.get_label()).startswith("_")]
        axes.legend(handles=told, frameon=False, fontsize=6, loc="lower left")
    axes.set_xlabel("% of weights pruned at once", labelpad=2)
    axes.grid()


def _dashes(lines: Iterable[Setting]) -> dict[Setting, str]:
    """A method's first line is drawn through."""
    counts: Counter[str] = Counter()
    found = {}
    for line in lines:
        found[line] = _DASHES[counts[line.method] % len(_DASHES)]
        counts[line.method] += 1
    return found


def scores(groups: Groups, traces: Traces) -> Figure:
    """The development score over epochs."""
    panels, drawn = _over_epochs(groups, traces, "score")
    note = "On the development set, over the epochs on the cell's task; first seed."
    return Figure("scores", "Score while training", note, panels, drawn)


def losses(groups: Groups, traces: Traces) -> Figure:
    """The training loss over epochs."""
    panels, drawn = _over_epochs(groups, traces, "loss")
    note = "Mean since the last record, penalty and distillation included; first seed."
    return Figure("losses", "Training loss", note, panels, drawn)


def _over_epochs(groups: Groups, traces: Traces, key: str) -> tuple[list[Panel], list[str]]:
    """A panel a group of cells with such a curve, and the methods drawn."""
    panels: list[Panel] = []
    shown: list[CellEntry] = []
    for group, entries in groups.items():
        lines = {
            e["id"]: (e["method"], line)
            for e in entries
            if len(line := traces.curves.get(e["id"], {}).get(key, [])) > 1
        }
        if not lines:
            continue
        shown += [e for e in entries if e["id"] in lines]
        text = ", ".join(
            f"{method_label(m)} ends at {line[-1][1]:.3g}" for m, line in lines.values()
        )
        above = title(group, entries) if key == "score" else group
        draw = partial(_draw_over_epochs, lines=lines)
        panels.append(panel(f"{key}{len(panels)}", above, text, draw))
    return panels, methods(shown)


def _draw_over_epochs(axes: Axes, lines: Mapping[str, tuple[str, Line]]) -> None:
    for method, line in lines.values():
        axes.plot(*zip(*line, strict=True), color=mark(method).colour, linewidth=1)
    axes.set_xlabel("epochs", labelpad=2)
    axes.grid()
