"""Plots of what the stages left behind: curves over levels and epochs, sparsity by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import nan
from typing import TYPE_CHECKING, Any

from ..catalogue.cell import TASKS, method_label, metric_named, primary_metric, task_label
from .cells import CellEntry
from .figures import Figure, Panel, mark, panel
from .groups import Groups, methods, short, title
from .one_shot import Points, Setting
from .traces import Traces

_DASHES = ("-", "--", ":", "-.")

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def one_shot(traces: Traces) -> Figure:
    """Scores over levels pruned at once, a panel a dense model and pattern."""
    panels: list[Panel] = []
    drawn: dict[str, None] = {}
    alike = Counter(curve[:3] for curve in traces.one_shot)
    for curve, lines in traces.one_shot.items():
        if all(len(points) < 3 for points in lines.values()):
            continue  # the dense model and one level: no curve
        drawn |= dict.fromkeys(line.method for line in lines)

        def draw(axes: Axes, lines: Mapping[Setting, Points] = lines) -> None:
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
        panels.append(panel(f"o{len(panels)}", heading, text, draw))
    return Figure(
        "one-shot",
        "One-shot curves",
        "Pruned at once and not trained afterwards; every such stage in the store. Dashes tell "
        "settings of one method apart.",
        panels,
        list(drawn),
    )


def _dashes(lines: Iterable[Setting]) -> dict[Setting, str]:
    """A method's first line is drawn through."""
    counts: Counter[str] = Counter()
    found = {}
    for line in lines:
        found[line] = _DASHES[counts[line.method] % len(_DASHES)]
        counts[line.method] += 1
    return found


def by_layer(groups: Groups, traces: Traces) -> Figure:
    """The share of zeros of each matrix as a picture, a row a cell."""
    panels: list[Panel] = []
    for name, entries in groups.items():
        # None are known of a cell whose chain diverged before the cell's own stage had begun.
        pruned = [e for e in entries if e["method"] != "dense" and traces.layers.get(e["id"])]
        for model in dict.fromkeys(e["model"] for e in pruned):
            rows = {_row_name(e): traces.layers[e["id"]] for e in pruned if e["model"] == model}
            # Some recipes prune a matrix more, the pooler's; of others its column stays blank.
            names = list(dict.fromkeys(name for layers in rows.values() for name in layers))

            def draw(
                axes: Axes,
                rows: Mapping[str, Mapping[str, float]] = rows,
                names: Sequence[str] = names,
            ) -> None:
                grid = [[100 * layers.get(n, nan) for n in names] for layers in rows.values()]
                axes.imshow(
                    grid, aspect="auto", vmin=0, vmax=100, cmap="viridis", interpolation="none"
                )
                axes.set_yticks(range(len(rows)), list(rows))
                depths = [_depth(n) for n in names]
                firsts = [i for i, d in enumerate(depths) if d is not None and d not in depths[:i]]
                firsts = firsts[:: -(-len(firsts) // 12)]  # labels must not run into each other
                axes.set_xticks([i - 0.5 for i in firsts], [str(depths[i]) for i in firsts])
                axes.set_xlabel("encoder layer, its matrices in order", labelpad=2)

            text = "; ".join(
                f"{row} from {100 * min(v.values()):.0f} to {100 * max(v.values()):.0f} %"
                for row, v in rows.items()
            )
            height = 0.75 + 0.22 * len(rows)
            panels.append(panel(f"l{len(panels)}", name, text, draw, height, 1.35))
    return Figure(
        "by-layer",
        "Sparsity by layer",
        "Share of each matrix that is zero, dark 0 % to bright 100 %. Within a layer: query, key, "
        "value, attention output, intermediate, output (the order of the model's own matrices).",
        panels,
        [],
    )


def scores(groups: Groups, traces: Traces) -> Figure:
    """The development score over epochs."""
    return _over_epochs(
        groups,
        traces,
        "score",
        "scores",
        "Score while training",
        "On the development set, over the epochs on the cell's task; first seed.",
    )


def losses(groups: Groups, traces: Traces) -> Figure:
    """The training loss over epochs."""
    return _over_epochs(
        groups,
        traces,
        "loss",
        "losses",
        "Training loss",
        "Mean since the last record, penalty and distillation included; first seed.",
    )


def _over_epochs(
    groups: Groups, traces: Traces, key: str, name: str, heading: str, note: str
) -> Figure:
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

        def draw(axes: Axes, lines: Mapping[str, tuple[str, Any]] = lines) -> None:
            for method, line in lines.values():
                axes.plot(*zip(*line, strict=True), color=mark(method).colour, linewidth=1)
            axes.set_xlabel("epochs", labelpad=2)
            axes.grid()

        text = ", ".join(
            f"{method_label(m)} ends at {line[-1][1]:.3g}" for m, line in lines.values()
        )
        above = title(group, entries) if key == "score" else group
        panels.append(panel(f"{key}{len(panels)}", above, text, draw))
    return Figure(name, heading, note, panels, methods(shown))


def _row_name(entry: CellEntry) -> str:
    return short(f"{method_label(entry['method'])} {entry['variant'] or ''}".strip())


def _depth(name: str) -> int | None:
    """The layer's number in a parameter's name: bert.encoder.layer.3.output.dense is 3."""
    return next((int(part) for part in name.split(".") if part.isdigit()), None)
