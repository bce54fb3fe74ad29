"""What the stages ran on, and where one comparison mixes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...amounts import counted
from ...catalogue.cell import method_label
from ...plan.method_code import changed_since
from ...schema import Stage
from .dotted import dotted
from .outcome import CellOutcome
from .views import CellView, PlanView, StoreView

WHERE = frozenset({"host", "hostname", "node", "pid", "ip"})  # may differ without harm


def environment(
    stage_ids: Iterable[str],
    plan: PlanView,
    outcomes: Mapping[str, CellOutcome],
    store: StoreView,
    beside: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Every value each recorded key takes, and a warning where one comparison mixes them.

    And where inputs are gone, so that results are taken as they were recorded, or a method's code
    is other by now. `beside`: the rows of `neighbours`.
    """
    finished = {i: result for i in stage_ids if (result := store.result(i)) is not None}
    recorded = [result.get("environment") for result in finished.values()]
    taken = [plan.stages[i] for i in finished if i in plan.stages]
    return {
        "values": {name: sorted(v) for name, v in sorted(_values(recorded).items())},
        "warnings": [
            *gone(plan),
            *of_other_code(taken, store),
            *_warnings(plan.cells, outcomes),
            *_beside(beside, store),
        ],
    }


def of_other_code(finished: Iterable[Stage], store: StoreView) -> list[str]:
    """Of methods whose code is other by now; their `version` was not raised, so ids are alike."""
    return [
        f"the code of {target} has changed since {counted(len(ids), 'finished stage')} ran"
        f" ({', '.join(ids[:3])}{', …' if ids[3:] else ''}); the results are used as they are"
        for target, ids in changed_since(finished, store.stage).items()
    ]


def gone(plan: PlanView) -> list[str]:
    """What a reader must know of results whose inputs are not here, so that nothing checks them."""
    return [f"taken as this store recorded it, since it is not here: {why}" for why in plan.gone]


def _values(recorded: Iterable[Mapping[str, Any] | None]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for environment in filter(None, recorded):
        for name, value in dotted(environment).items():
            if value is not None:
                found.setdefault(name, set()).add(str(value))
    return found


def _warnings(plans: Mapping[str, CellView], outcomes: Mapping[str, CellOutcome]) -> list[str]:
    """One line for each task of a table whose results (and dense model) come from mixed places.

    What the document compares, it compares within a table and task.
    """
    rows: dict[Any, list[Any]] = {}
    names: dict[Any, dict[str, None]] = {}
    for name, plan in plans.items():
        if plan.cell.method == "dense" or not plan.selected:
            continue
        row = (plan.cell.table, plan.cell.task)
        of_row = rows.setdefault(row, [])
        for cell_id in (name, plan.cell.baseline):
            if cell_id is not None and cell_id in outcomes:
                of_row += [r.get("environment") for r in outcomes[cell_id].results]
        names.setdefault(row, {})[method_label(plan.cell.method)] = None
    return [
        f"t{row[0]}/{row[1]} ({', '.join(names[row])}) mixes {mixed}"
        for row, recorded in rows.items()
        if (mixed := _mixed(recorded))
    ]


def _beside(rows: Iterable[Mapping[str, Any]], store: StoreView) -> list[str]:
    """Of cells that stand beside one's own, task by task: they may be of any machine and time."""
    by_task: dict[str, list[Mapping[str, Any] | None]] = {}
    for row in rows:
        recorded = by_task.setdefault(row["task"], [])
        recorded += [(store.result(stage) or {}).get("environment") for stage in row["last_stages"]]
    return [
        f"what stands beside one's own cells on {task} mixes {mixed}"
        for task, recorded in by_task.items()
        if (mixed := _mixed(recorded))
    ]


def _mixed(recorded: Iterable[Mapping[str, Any] | None]) -> str:
    """What is not alike in all that recorded it, in words: torch: 2.12.0, 2.13.0."""
    return "; ".join(
        f"{key}: {', '.join(sorted(values))}"
        for key, values in _values(recorded).items()
        if len(values) > 1 and key.rpartition(".")[2] not in WHERE
    )
