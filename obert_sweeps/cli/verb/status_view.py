"""`status` as people read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...amounts import counted, duration, size
from ...schema import role_group
from ..answer import by_reason, console

LISTED = 40  # stages; of more, those that are done or waiting are counted by kind
FEW = 10  # stages of other requests; of more, only the recorded own cells are named
NAMED = 3  # blocked cells with the same reason
STYLES = {"done": "green", "running": "cyan", "failed": "red", "blocked": "yellow"}


def show(document: Mapping[str, Any], out: Console | None = None) -> None:
    """Stages, what is wrong and where to look, how far it all is."""
    out = out or console()
    stages = document["stages"]
    fold = len(stages) > LISTED
    table = Table("stage", "what", "state", "", box=None)
    for row in stages:
        if not fold or row["state"] in ("running", "failed"):
            table.add_row(
                row["id"][:8],
                Text(row["name"]),
                Text(row["state"], STYLES.get(row["state"], "")),
                Text(detail(row)),
            )
    if table.row_count:
        out.print(table)
    if fold:
        out.print(by_kind(document))
    out.print()
    for row in stages:
        if row["state"] == "failed":
            out.print(Text(f"failed   {row['name']}: {row['reason']}  (log: {row['log']})", "red"))
    blocked = [(c["reason"], c["id"]) for c in document["cells"] if c["state"] == "blocked"]
    for reason, cells in by_reason(blocked).items():
        more = f" and {len(cells) - NAMED} more" if len(cells) > NAMED else ""
        out.print(Text(f"blocked  {', '.join(cells[:NAMED])}{more}: {reason}", "yellow"))
    out.print(Text(summary(document)))
    show_others(document["others"], out)


def show_others(others: Mapping[str, Any], out: Console) -> None:
    """What the store holds of other requests; of one's own cells, how to ask for the first."""
    stages, cells = others["stages"], others["cells"]
    if not stages:
        return
    told = f"{counted(len(stages), 'stage')} of other requests, {size(others['bytes'])}"
    out.print(Text(f"also in this store: {told}"))
    table = Table("stage", "what", "state", "", box=None)
    for row in stages if len(stages) <= FEW else []:
        table.add_row(row["id"][:8], Text(row["name"]), row["state"], Text(detail(row)))
    for row in cells if len(stages) > FEW else []:
        name = Text(" ".join([row["id"], *row["settings"], f"seed {row['seed']}"]))
        table.add_row(row["stage"][:8], name, "done", Text(numbers(row["measured"])))
    if table.row_count:
        out.print(table)
    if cells:
        out.print(Text(f"for instance: obert-sweeps status {cells[0]['request']}"), soft_wrap=True)


def show_stage(document: Mapping[str, Any], out: Console | None = None) -> None:
    """One stage: how it stands, how its training went, its log's end, its recipe, its replay."""
    out = out or console()
    out.print(f"{document['id']}  {document['name']}")
    out.print(Text(f"{document['state']}  {detail(document)}"))
    for role, parent in document["parents"].items():
        out.print(f"{role:<8} {parent}")
    if document["evaluations"]:
        out.print(course(document["evaluations"]))
    if document["log_tail"]:
        out.print(Text("\nlog.txt ends:\n" + "\n".join(document["log_tail"])), soft_wrap=True)
    out.print("\nrecipe, without what is null (format=json has every key):")
    for part, content in document["recipe"].items():
        out.print(Text(f"{part:<9} {one_line(content)}"))
    out.print(Text(f"\nagain, in this process: {document['replay']}"), soft_wrap=True)


def course(evaluations: Sequence[Mapping[str, Any]]) -> Table:
    """One line for each evaluation, the last one last."""
    names = list(dict.fromkeys(name for one in evaluations for name in one["metrics"]))
    table = Table("epoch", "step", "loss", "sparsity", *names, box=None)
    for column in table.columns:
        column.justify = "right"
    for one in evaluations:
        known = (one["epoch"], one["step"], one.get("loss"), one.get("sparsity"))
        values = [*known, *(one["metrics"].get(name) for name in names)]
        table.add_row(*("" if value is None else f"{value:.4g}" for value in values))
    return table


def one_line(content: Any) -> str:
    """Keys and values as a request would say them: epochs=3 distill.hardness=1.0."""
    return " ".join(_said("", content)) if isinstance(content, dict) else str(content)


def _said(prefix: str, content: Mapping[str, Any]) -> Iterator[str]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _said(f"{prefix}{key}.", value)
        elif value is not None:
            yield f"{prefix}{key}={value}"


def by_kind(document: Mapping[str, Any]) -> Table:
    """One line for each kind of stage."""
    states = ("done", "running", "failed", "blocked", "waiting")
    table = Table("kind of stage", *states, box=None)
    kinds: dict[str, dict[str, int]] = {}
    for row in document["stages"]:
        of_kind = kinds.setdefault(role_group(row["kind"]), dict.fromkeys(states, 0))
        of_kind[row["state"]] += 1
    for kind, counts in kinds.items():
        table.add_row(kind, *(str(count or "") for count in counts.values()))
    return table


def summary(document: Mapping[str, Any]) -> str:
    """12/40 stages done, 2 running; 5/16 cells complete; about 3 h of work left; 210 MB in runs."""
    counts = dict(document["counts"])
    total = sum(counts.values())
    parts = [f"{counts.pop('done', 0)}/{counted(total, 'stage')} done"]
    parts += [f"{n} {state}" for state, n in counts.items()]
    complete = sum(cell["state"] == "done" for cell in document["cells"])
    told = [", ".join(parts), f"{complete}/{counted(len(document['cells']), 'cell')} complete"]
    if document["seconds_left"]:
        told.append(f"about {duration(document['seconds_left'])} of work left")
    told.append(f"{size(document['bytes'])} in {document['store']}")
    return "; ".join(told)


def numbers(metrics: Mapping[str, float | None]) -> str:
    """accuracy 88.51 f1 undefined"""
    said = {k: "undefined" if v is None else f"{v:.2f}" for k, v in metrics.items()}
    return " ".join(f"{name} {value}" for name, value in said.items())


def detail(row: Mapping[str, Any]) -> str:
    """What a stage came to, why it did not, or how far it is."""
    if row["state"] == "done":
        text = numbers(row["metrics"])
        text = text if row["status"] == "done" else f"{row['status']} {text}"
        return f"{text}; {row['remark']}" if "remark" in row else text
    if row["state"] in ("failed", "blocked"):
        return str(row["reason"])
    progress = row.get("progress") or {}
    parts = []
    if "epochs" in progress:
        parts.append(f"epoch {progress['epoch']:.1f} of {progress['epochs']:g}")
    elif "step" in progress:
        parts.append(f"step {progress['step']}")
    if row["state"] == "running":
        if progress.get("samples_per_second"):
            parts.append(f"{progress['samples_per_second']:.0f} samples/s")
        if row.get("seconds_left") is not None:
            parts.append(f"{duration(row['seconds_left'])} left")
        parts.append(str(row["holder"]))
    return ", ".join(parts)
