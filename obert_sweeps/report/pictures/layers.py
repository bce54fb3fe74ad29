"""How sparse each matrix came out, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import nan
from typing import TYPE_CHECKING

from ...catalogue.cell import method_label
from ..facts.traces import Traces
from ..judgement.cells import CellEntry
from .groups import Groups, short
from .panel import Figure, Panel, panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def by_layer(groups: Groups, traces: Traces) -> Figure:
    """The share of zeros of each matrix as a picture, a row a cell."""
    panels: list[Panel] = []
    for name, entries in groups.items():
        # None are known of a cell whose chain diverged before the cell's own stage had begun.
        pruned = [e for e in entries if e["method"] != "dense" and traces.layers.get(e["id"])]
        for model in dict.fromkeys(e["model"] for e in pruned):
            rows = {_row_name(e): traces.layers[e["id"]] for e in pruned if e["model"] == model}
            text = "; ".join(
                f"{row} from {100 * min(v.values()):.0f} to {100 * max(v.values()):.0f} %"
                for row, v in rows.items()
            )
            height = 0.75 + 0.22 * len(rows)
            draw = partial(_draw, rows=rows)
            panels.append(panel(f"l{len(panels)}", name, text, draw, height, 1.35))
    return Figure(
        "by-layer",
        "Sparsity by layer",
        "Share of each matrix that is zero, dark 0 % to bright 100 %. Within a layer: query, key, "
        "value, attention output, intermediate, output (the order of the model's own matrices).",
        panels,
        [],
    )


def _draw(axes: Axes, rows: Mapping[str, Mapping[str, float]]) -> None:
    """A column a matrix. Some recipes prune one more, the pooler's; of others it stays blank."""
    names = list(dict.fromkeys(name for layers in rows.values() for name in layers))
    grid = [[100 * layers.get(name, nan) for name in names] for layers in rows.values()]
    axes.imshow(grid, aspect="auto", vmin=0, vmax=100, cmap="viridis", interpolation="none")
    axes.set_yticks(range(len(rows)), list(rows))
    firsts = _first_of_layers(names)
    shown = list(firsts)[:: -(-len(firsts) // 12)]  # labels must not run into each other
    axes.set_xticks([firsts[depth] - 0.5 for depth in shown], [str(depth) for depth in shown])
    axes.set_xlabel("encoder layer, its matrices in order", labelpad=2)


def _first_of_layers(names: Sequence[str]) -> dict[int, int]:
    """Layer -> where its first matrix stands among the names."""
    firsts: dict[int, int] = {}
    for place, name in enumerate(names):
        if (depth := _depth(name)) is not None:
            firsts.setdefault(depth, place)
    return firsts


def _row_name(entry: CellEntry) -> str:
    return short(f"{method_label(entry['method'])} {entry['variant'] or ''}".strip())


def _depth(name: str) -> int | None:
    """The layer's number in a parameter's name: bert.encoder.layer.3.output.dense is 3."""
    return next((int(part) for part in name.split(".") if part.isdigit()), None)
