"""The report on the screen, as rich renderables. rich is imported when asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...catalogue.layouts import layouts
from .. import words

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_STYLE = {"good": "green", "bad": "red", "open": "yellow", "none": "dim"}


def terminal(report: Mapping[str, Any]) -> list[RenderableType]:
    """Tables by table number, claims, warnings, and the cost of each kind of stage and stage."""
    titles = {layout.table: layout.title for layout in layouts()}
    numbers = sorted({entry["table"] for entry in report["cells"]})
    shown: list[RenderableType] = [
        _cells([e for e in report["cells"] if e["table"] == n], n, titles.get(n, ""))
        for n in numbers
    ]
    if report["neighbours"]:
        shown.append(_neighbours(report["neighbours"]))
    if report["claims"]:
        shown.append(_claims(report["claims"]))
    for warning in report["environment"]["warnings"]:
        shown.append(_text(f"warning: {warning}", "yellow"))
    for item in report["audit"]["violations"]:
        values = ", ".join(f"{task}={value}" for task, value in item["values"].items())
        line = f"audit: {item['method']} (table {item['table']}) sets {item['knob']} per task: "
        shown.append(_text(line + values, "red"))
    remarks = [(remark, e["id"]) for e in report["cells"] for remark in e["remarks"]]
    for remark in dict.fromkeys(text for text, _ in remarks):
        of = ", ".join(cell for text, cell in remarks if text == remark)
        shown.append(_text(f"{of}: {remark}", "yellow"))
    shown.append(_text(f"made with {' '.join(report['request'])}"))
    shown.append(_text(f"compared {report['audit']['comparison']}"))
    shown.append(_cost(report["cost"]))
    shown.append(_text(words.verdicts.tally(report["cells"]) or "no cells"))
    return shown


def _text(text: str, style: str = "") -> Any:
    from rich.text import Text

    return Text(text, style=style)


def _table(title: str, *columns: tuple[str, str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),  # an id takes half of a narrow screen
    )
    for name, justify in columns:
        whole = name == "cell"  # an id in two pieces cannot be copied or searched for
        table.add_column(name, justify=justify, overflow="fold", no_wrap=whole)  # type: ignore[arg-type]
    return table


def _cells(entries: list[Any], number: int, title: str) -> Table:
    left = ("cell", "measured", "published", "recovery (document)", "rank (document)", "verdict")
    heading = f"Table {number}: {title}" if number else "Your own cells"
    table = _table(heading, *((name, "left") for name in left))
    for entry in entries:
        style = _STYLE[words.verdicts.SIGNS[entry["verdict"]][1]]
        verdict = words.cells.verdict(entry)
        if entry["verdict"] in ("failed", "blocked") and entry["reason"]:
            verdict += f": {entry['reason']}"
        elif entry["seeds"] and len(entry["seeds"]) < len(entry["finals"]):
            verdict += f", {len(entry['seeds'])} of {len(entry['finals'])} seeds"
        table.add_row(
            _text(entry["id"]),
            _text(words.cells.measured(entry)),
            _text(words.cells.published(entry)),
            _text(words.cells.recovery(entry)),
            _text(words.cells.rank(entry)),
            _text(verdict, style),
        )
    return table


def _neighbours(rows: list[Any]) -> Table:
    table = _table("Beside them in this store", *((name, "left") for name in words.neighbours.HEAD))
    for row in rows:
        name, *others = words.neighbours.row(row)
        table.add_row(_text(name, "bold" if row["selected"] else ""), *others)
    return table


def _claims(claims: list[Any]) -> Table:
    table = _table("Claims", ("claim", "left"), ("here", "left"), ("on what", "left"))
    for claim in claims:
        sign, kind = words.verdicts.SIGNS[claim["verdict"]]
        here = f"{sign} {words.claims.verdict(claim)}"
        compared = Counter(item["verdict"] for item in claim["evidence"] if "verdict" in item)
        on_what = ", ".join(f"{n} {words.claims.label(token)}" for token, n in compared.items())
        on_what = on_what or "; ".join(words.claims.comparison(item) for item in claim["evidence"])
        table.add_row(_text(claim["text"]), _text(here, _STYLE[kind]), _text(on_what))
    return table


def _cost(cost: Mapping[str, Any]) -> Table:
    def seconds(row: Mapping[str, Any]) -> list[str]:
        return [f"{row[name]:.1f}" for name in ("seconds", "cpu_seconds", "gpu_seconds")]

    numbers = ((name, "right") for name in ("done", "seconds", "CPU s", "GPU s"))
    table = _table(f"Cost: {words.costs.took(cost)}", ("stage", "left"), *numbers)
    for kind in cost["by_kind"]:
        done = f"{kind['done']}/{kind['stages']}"
        table.add_row(_text(kind["kind"], "bold"), done, *seconds(kind))
    table.add_section()
    for row in cost["stages"]:
        table.add_row(_text(row["name"]), _text(row["status"].replace("_", " ")), *seconds(row))
    return table
