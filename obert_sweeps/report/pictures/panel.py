"""Small SVG panels that take the page's own colours. The only module that imports matplotlib.

A figure is many small panels rather than one wide picture: the page lays them out, so that a phone
shows one in a row and its text stays readable. Ink and grid are drawn in two stand-in colours that
become CSS colours: the page's dark theme then holds for the plots too.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 3.6  # inches
INK, GRID = "#0a0b0c", "#0d0e0f"
STYLE = {
    "svg.hashsalt": "report",
    "svg.fonttype": "none",
    "font.size": 8,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 5,
}


@dataclass(frozen=True)
class Panel:
    """One set of axes, as inline SVG."""

    title: str
    svg: str


@dataclass(frozen=True)
class Figure:
    """`methods` are those drawn, for the legend."""

    id: str
    title: str
    note: str
    panels: list[Panel]
    methods: list[str]


def panel(
    key: str,
    title: str,
    text: str,
    draw: Callable[[Axes], None],
    height: float = 2.3,
    left: float = 0.5,
) -> Panel:
    """One set of axes. `key` is unique in the page, `text` says in words what is to be seen.

    Sizes in inches; `left` is the room for the labels of the vertical axis.
    """
    import matplotlib
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import AutoLocator, MaxNLocator

    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH, height))
        axes = canvas.add_axes(
            (left / WIDTH, 0.42 / height, (WIDTH - left - 0.1) / WIDTH, 1 - 0.52 / height)
        )
        draw(axes)
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(axis.get_major_locator(), AutoLocator):
                axis.set_major_locator(MaxNLocator(5))  # few labels: they cost most of the time
        out = io.StringIO()
        canvas.savefig(out, format="svg", metadata={"Date": None})
    return Panel(title, _inline(out.getvalue(), key, f"{title}: {text}"))


def _inline(svg: str, key: str, name: str) -> str:
    """The SVG without what belongs to a file of its own, its ids made unique in the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>|<!--.*?-->", "", svg, flags=re.S)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{key}-{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{key}-", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 sans-serif", svg)
    svg = svg.replace(INK, "currentColor").replace(GRID, "var(--line)")
    head = f'<svg role="img" aria-label="{escape(name)}"'
    size = re.search(r'viewBox="[^"]*"', svg)
    body = svg[svg.index(">") + 1 :]
    return re.sub(r"\n\s*", "\n", f"{head} {size[0] if size else ''}>{body}").strip()
