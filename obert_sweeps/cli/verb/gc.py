"""`gc`: what no cell needs any more; lists it, and with confirm=true frees it."""

from __future__ import annotations

import shlex
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from ...amounts import counted, size
from ...plan.dag import make_plan
from ...plan.garbage import find, free, held
from ...request.read import Loaded
from ..answer import answer, console, notice, tell_blocked
from ..beside import other_cells, request_of
from ..settings import store_of

LISTED = 20  # rows; the rest is added up


def main(loaded: Loaded) -> int:
    plan = make_plan(loaded)
    store = store_of(loaded)
    running = held(store)
    items = find(plan, store, running)
    freed, faults = 0, 0
    for item in items if loaded.request.confirm else []:
        try:
            if free(item, store):
                freed += item.bytes
            else:
                notice(f"{item.stage} {item.what} is kept: somebody runs the stage by now")
        except OSError as error:
            faults += 1
            notice(f"{item.stage} {item.what} could not be removed: {error}")
    there = store.ids()
    known = sum(stage in plan.stages for stage in there)
    others = [] if known else other_cells(plan, store)
    document = {
        "store": store.address,
        "needed_by": f"{counted(len(plan.selected()), 'cell')}, preset {plan.preset}, "
        f"seeds {plan.seeds}",
        "stages": len(there),
        "stages_of_request": known,
        "another_request": request_of(others[0], store, others) if others else None,
        "blocked": sum(bool(cell.blocked) for cell in plan.selected()),
        "items": [asdict(item) for item in items],
        "held": running,
        "others_run": bool(running.keys() - plan.stages.keys()),
        "bytes": sum(item.bytes for item in items),
        "freed": freed,
    }
    answer(loaded, document, lambda told: show(told, bool(loaded.request.confirm)))
    tell_blocked(blocked := plan.blocked())
    return 1 if faults or blocked else 0


def stranger(document: Mapping[str, Any]) -> str:
    """A warning where nothing in the store is of this request: then all of it seems unneeded."""
    another = document["another_request"] or "preset=… table=… cells=…"
    return (
        f"warning: none of the {counted(document['stages'], 'stage')} in {document['store']} "
        f"belongs to this request ({document['needed_by']}), so all their models are listed. If "
        f"you still need them, name the request that made them: obert-sweeps gc {another}\n"
    )


def show(document: Mapping[str, Any], confirmed: bool) -> None:
    out = console()
    if document["items"] and not (document["stages_of_request"] or document["blocked"]):
        out.print(Text(stranger(document), "yellow"), soft_wrap=True)
    table = Table("stage", "what", "", "size", "why", box=None)
    table.columns[3].justify = "right"
    for item in document["items"][:LISTED]:
        what, name = Text(item["what"]), Text(item["name"])
        table.add_row(item["stage"][:8], what, name, size(item["bytes"]), item["reason"])
    if table.row_count:
        out.print(table)
    rest: dict[str, list[int]] = defaultdict(list)
    for item in document["items"][LISTED:]:
        rest[item["reason"]].append(item["bytes"])
    for reason, sizes in rest.items():
        out.print(f"and {len(sizes)} more, {size(sum(sizes))}: {reason}")
    for stage, who in document["held"].items():
        out.print(f"{stage[:8]} is being run by {who}: it and the stages it needs are kept")
    if document["others_run"]:
        out.print(
            "this is another request's, and what else that will run is not known: all models are "
            "kept until it ends"
        )
    if document["blocked"]:
        out.print(
            f"blocked: {counted(document['blocked'], 'cell')}, whose stages are not known; "
            "stages that no other selected cell needs are kept"
        )
    out.print(f"needed are the stages of {document['needed_by']}, in {document['store']}")
    if confirmed:
        out.print(f"freed {size(document['freed'])}")
    elif document["items"]:
        again = shlex.join(["obert-sweeps", *sys.argv[1:], "confirm=true"])
        can = f"{size(document['bytes'])} can be freed; nothing has been so far."
        out.print(Text(f"{can} Type: {again}"), soft_wrap=True)
    else:
        out.print("nothing can be freed")
