"""`report`: measured beside published, from what the store holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...plan.compose import to_plain
from ...plan.dag import Plan, make_plan
from ...report.build import build
from ...report.facts.traces import read_traces
from ...report.pages.files import write
from ...report.pages.links import run_links
from ...report.pages.terminal import terminal
from ...request.read import Loaded
from ...store import Store
from ..answer import answer, console
from ..settings import store_of


def main(loaded: Loaded) -> int:
    store = store_of(loaded)
    store.check_writable("report")
    return conclude(loaded, make_plan(loaded, store), store)


def conclude(loaded: Loaded, plan: Plan, store: Store) -> int:
    """Write the report and show it; the exit code says whether every cell is finished."""
    report = build(plan, store, store.cells())
    folder = store.root / "report"
    runs = run_links(store.root, to_plain(loaded.request.tracker))
    write(report, folder, read_traces(plan, store), runs)
    store.place.publish("report")

    def show(report: Mapping[str, Any]) -> None:
        out = console()
        for part in terminal(report):
            out.print(part)
        out.print(f"report: {folder / 'report.html'}")
        if store.address != str(store.root):
            out.print(f"        {store.address}/report/report.html")

    answer(loaded, report, show)
    return 0 if all(map(finished, report["cells"])) else 1


def finished(cell: Mapping[str, Any]) -> bool:
    """Whether a cell of the report is what was asked for: with all its seeds."""
    unfinished = cell["verdict"] in ("blocked", "failed", "not_run")
    return not unfinished and len(cell["seeds"]) == len(cell["finals"])
