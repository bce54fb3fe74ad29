"""`audit`: what each method sets per task and was given; fails where "tuning-free" is not so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from ...plan.dag import make_plan
from ...report import words
from ...report.build import build
from ...report.judgement.fairness import fairness
from ...request.read import Loaded
from ..answer import answer, console, tell_blocked
from ..caveats import tell_gone
from ..settings import store_of

GIVEN = ("epochs", "upstream_epochs", "examples", "fisher_gradients", "cpu_seconds", "gpu_seconds")


def main(loaded: Loaded) -> int:
    store = store_of(loaded)
    plan = make_plan(loaded, store)
    tell_gone(plan)
    report = build(plan, store)
    document = {**report["audit"], "given": fairness(report)}
    answer(loaded, document, show)
    blocked = [(c["reason"], c["id"]) for c in report["cells"] if c["verdict"] == "blocked"]
    tell_blocked(blocked)
    return 0 if document["ok"] and not blocked else 1


def show(document: Mapping[str, Any]) -> None:
    out = console()
    out.print(given(document["given"]))
    for group in document["methods"]:
        if len(group["tasks"]) > 1:
            where = f"table {group['table']}  {words.methods.name(group)}"
            out.print(Text(f"{where}: {words.methods.knobs(group)}"))
    for item in document["violations"]:
        values = ", ".join(f"{task} {value}" for task, value in item["values"].items())
        line = f"{item['method']} is called tuning-free, but sets {item['knob']} per task: {values}"
        out.print(Text(line, "red"))


def given(rows: list[Mapping[str, Any]]) -> Table:
    """Means over tasks and seeds, beyond the dense model; a dash for what is not known yet."""
    table = Table("table", "method", "tasks", "recovery (document)", "knobs", *GIVEN, box=None)
    for row in rows:
        group = row["knobs"]
        knobs = str(words.methods.knob_count(group)) if group and len(group["tasks"]) > 1 else "–"
        table.add_row(
            str(row["table"]),
            words.methods.name(row),
            str(len(row["tasks"])),
            words.methods.mean_recovery(row),
            knobs,
            *(words.methods.effort(row, name) for name in GIVEN),
        )
    return table
