"""`ls`: the cells with published values."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from ...request.read import Loaded
from ...request.selection import select
from ..answer import answer, console


def main(loaded: Loaded) -> int:
    answer(loaded, [cell.listing() for cell in select(loaded)], show)
    return 0


def show(cells: list[dict[str, Any]]) -> None:
    table = Table("cell", "published", "note", box=None, pad_edge=False)
    for cell in cells:
        values = "  ".join(
            f"{metric} {'—' if value is None else f'{value:g}'}"
            for metric, value in cell["published"].items()
        )
        table.add_row(cell["id"], values, cell["note"])
    console().print(table)
