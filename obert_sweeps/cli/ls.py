"""`ls`: the cells with published values."""

from __future__ import annotations

from rich.table import Table

from ..request import Loaded
from ..selection import select
from .answer import console, print_json


def main(loaded: Loaded) -> int:
    cells = select(loaded)
    if loaded.request.format == "json":
        print_json([cell.listing() for cell in cells])
        return 0
    table = Table("cell", "published", "note", box=None, pad_edge=False)
    for cell in cells:
        values = "  ".join(
            f"{metric} {'—' if value is None else f'{value:g}'}"
            for metric, value in cell.published.items()
        )
        table.add_row(cell.id, values, cell.note)
    console().print(table)
    return 0
