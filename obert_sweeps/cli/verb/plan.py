"""`plan`: before anything is paid for: stages, sharing, time, disk, what is missing."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.table import Table

from ...amounts import counted, duration, rounded, size
from ...plan.cost import Measured
from ...plan.dag import Plan, make_plan
from ...plan.to_run import to_run
from ...request.read import Loaded
from ...schema import Stage, role_group
from ...store import Store
from ..answer import answer, by_reason, console
from ..caveats import tell_of_changed_code, tell_of_room
from ..check import check_stages, restates
from ..settings import store_of

_TOLD_GPU_HOURS = 0.01  # a plan of fewer is for a CPU


def main(loaded: Loaded) -> int:
    plan = make_plan(loaded)
    store = store_of(loaded)
    pending = to_run(plan.wanted(), store)
    done = {stage.id for stage in plan.wanted()} - {stage.id for stage in pending}
    if restates(loaded):
        check_stages(pending, plan, list(loaded.request.allow_targets))
    tell_of_changed_code(plan, done, store)
    tell_of_room(pending, store)
    document = describe(plan, done, measured(store))
    answer(loaded, document, show)
    return 1 if any(c.blocked for c in plan.selected()) else 0


def measured(store: Store) -> Measured:
    """What the store's finished stages, of this plan or another, came to."""
    found = Measured()
    for stage_id in store.ids():
        result, recorded = store.result(stage_id), store.folder(stage_id).read_json("stage.json")
        if result is not None and isinstance(recorded, dict):
            found.add(Stage.from_dict(recorded), result)
    return found


def describe(plan: Plan, done: set[str], rates: Measured) -> dict[str, Any]:
    """The plan as a document. A stage's `cost.seconds` is by what was measured, where it was."""
    wanted = plan.wanted()
    pending = [s for s in wanted if s.id not in done]
    by_rate = {s.id: known for s in pending if (known := rates.seconds_of(s)) is not None}
    seconds = {s.id: by_rate.get(s.id, s.cost["seconds"]) for s in wanted}
    users = Counter(i for c in plan.selected() for i in c.stages)
    return {
        "preset": plan.preset,
        "comparison": plan.comparison,
        "seeds": plan.seeds,
        "cells": [
            {
                "id": c.cell.id,
                "stages": c.stages,
                "finals": c.finals,
                "blocked": c.blocked,
                "stand_in": c.stand_in,
                "assumed": c.assumed,
            }
            for c in plan.selected()
        ],
        "stages": [
            s.as_dict()
            | {
                "cost": s.cost | {"seconds": seconds[s.id]},
                "done": s.id in done,
                "cells": users[s.id],
            }
            for s in wanted
        ],
        "totals": {
            "cells": len(plan.selected()),
            "blocked": sum(bool(c.blocked) for c in plan.selected()),
            "stages": len(wanted),
            "stages_without_sharing": sum(users.values()),
            "finished": len(wanted) - len(pending),
            "gpu_hours": sum(s.cost["gpu_hours"] for s in pending),
            "seconds": sum(seconds[s.id] for s in pending),
            "by_measured_rates": len(by_rate),
            "measured_stages": rates.stages,
            "disk_bytes": sum(s.cost["disk_bytes"] for s in pending),
        },
    }


def show(document: dict[str, Any]) -> None:
    totals, seeds = document["totals"], len(document["seeds"])
    out = console()
    by_gpu = totals["gpu_hours"] >= _TOLD_GPU_HOURS
    spent = "GPU-hours" if by_gpu else "time"
    table = Table("stage", "model", "count", "cells", "done", spent, "disk", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in by_kind(document["stages"], by_gpu):
        table.add_row(*row)
    hours = f"{rounded(totals['gpu_hours'])} A100-hours, or " if by_gpu else ""
    how = "by what such models have been seen to take"
    if totals["by_measured_rates"]:
        how = (
            f"{totals['by_measured_rates']} of them at the rates of "
            f"{counted(totals['measured_stages'], 'finished stage')} in this store"
        )
    out.print(table)
    out.print(
        f"\n{counted(totals['cells'], 'cell')}, {counted(seeds, 'seed')}, "
        f"preset {document['preset']}: {counted(totals['stages'], 'stage')} "
        f"({totals['stages_without_sharing']} without sharing), {totals['finished']} done.\n"
        f"Compared {document['comparison']}.\n"
        f"To do: about {hours}{duration(totals['seconds'])} one after another here, {how}; "
        f"{size(totals['disk_bytes'])} of results, checkpoints and data apart."
    )
    blocked = [(c["blocked"], c["id"]) for c in document["cells"] if c["blocked"]]
    for reason, ids in by_reason(blocked).items():
        out.print(f"blocked, {counted(len(ids), 'cell')}: {reason}\n  {' '.join(ids)}")


def by_kind(stages: list[dict[str, Any]], by_gpu: bool) -> list[list[str]]:
    """One row for each role and model, in the order of the plan; in GPU-hours, or in time."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for stage in stages:
        tags = stage["tags"]
        groups.setdefault((role_group(tags["role"]), tags["model"]), []).append(stage)
    return [
        [
            role,
            model,
            str(len(members)),
            str(sum(s["cells"] for s in members)),
            str(sum(s["done"] for s in members)),
            rounded(sum(s["cost"]["gpu_hours"] for s in members))
            if by_gpu
            else duration(sum(s["cost"]["seconds"] for s in members)),
            size(sum(s["cost"]["disk_bytes"] for s in members)),
        ]
        for (role, model), members in groups.items()
    ]
