"""report.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...catalogue.layouts import layouts
from .. import words
from ..facts.effort import QUANTITIES
from ..judgement.fairness import fairness

_LEGEND = (
    "Measured: mean ± standard deviation over n seeds. Difference: measured - published ± half of"
    " its 90 % interval; the verdict says whether that lies within the margin (1 point; of a size,"
    " a tenth)."
)


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report as GitHub-flavoured Markdown, ending in a newline."""
    lines = [
        *("# Measured beside published", "", f"{words.verdicts.tally(report['cells'])}.", ""),
        *(f"Made with `{_safe(' '.join(report['request']))}`.", ""),
        *(f"Compared {_safe(report['audit']['comparison'])}.", ""),
        *(f"{words.origin.said(report['origin'])}.", ""),
        *(_LEGEND, ""),
        *_cells(report["cells"]),
        *_neighbours(report["neighbours"]),
        *_claims(report["claims"]),
        *_inference(report["inference"]),
        *_knobs(report["audit"]["methods"]),
        *_given(report),
        *_cost(report["cost"]),
        *_environment(report["environment"]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _cells(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    titles = {layout.table: f"Table {layout.table}: {layout.title}" for layout in layouts()}
    head = ("cell", "measured", "published", "recovery (document)", "rank (document)")
    lines = []
    for number in sorted({entry["table"] for entry in entries}):
        of_table = [entry for entry in entries if entry["table"] == number]
        lines += [f"## {titles.get(number, 'Your own cells')}", ""]
        lines += _table((*head, "verdict", "difference"), map(_cell, of_table))
        lines += _remarks(of_table)
    return lines


def _cell(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        entry["id"],
        words.cells.measured(entry),
        words.cells.published(entry),
        words.cells.recovery(entry),
        words.cells.rank(entry),
        words.cells.verdict(entry),
        words.cells.all_differences(entry),
    )


def _remarks(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    lines = []
    for entry in entries:
        parts = [entry["reason"] or "", *entry["notes"]]
        parts += [f"{name} not measured: {why}" for name, why in entry["not_measured"].items()]
        if text := "; ".join(part for part in parts if part):
            lines.append(f"- `{entry['id']}`: {_safe(text)}")
    return [*lines, ""] if lines else []


def _neighbours(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    table = _table(words.neighbours.HEAD, map(words.neighbours.row, rows))
    return ["## Beside them in this store", "", *table] if rows else []


def _claims(claims: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for claim in claims:
        sign = words.verdicts.SIGNS[claim["verdict"]][0]
        lines.append(f"- {sign} **{words.claims.verdict(claim)}**: {_safe(claim['text'])}")
        lines += [f"  - {_safe(words.claims.comparison(item))}" for item in claim["evidence"]]
    return ["## Claims", "", *lines, ""] if lines else []


def _inference(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for entry in found["benchmarks"]:
        machine, flags = words.inference.machine(entry), words.inference.flags(entry)
        lines += [f"### {_safe(entry['name'])}", "", f"{_safe(machine)}.", ""]
        if entry["rows"]:
            lines += _table(words.inference.HEAD, words.inference.rows(entry))
        lines += [f"- {_safe(line)}" for line in words.inference.absent(entry)]
        lines += [f"- {engine}: {_safe(said)}" for engine, said in flags.items()]
        lines.append("")
    if found["sizes"]:
        names = [entry["name"] for entry in found["sizes"]]
        rows = zip(names, words.inference.sizes(found["sizes"]), strict=True)
        lines += ["### Sizes", ""]
        lines += _table(("export", *words.inference.SIZES), ((name, *row) for name, row in rows))
    return ["## Inference", "", *lines] if lines else []


def _knobs(methods: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        (group["table"], group["method"], ", ".join(group["tasks"]), words.methods.knobs(group))
        for group in methods
        if len(group["tasks"]) > 1
    ]
    head = ("table", "method", "tasks", "knobs that differ by task")
    return ["## Fairness: knobs set per task", "", *_table(head, rows)]


def _given(report: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            row["table"],
            words.methods.name(row),
            ", ".join(row["tasks"]),
            words.methods.mean_recovery(row),
            *(words.methods.effort(row, name) for name in QUANTITIES),
        )
        for row in fairness(report)
    ]
    names = (name.replace("_", " ") for name in QUANTITIES)
    head = ("table", "method", "tasks", "recovery (document)", *names)
    return ["## Fairness: what each method was given", "", *_table(head, rows)]


def _cost(cost: Mapping[str, Any]) -> list[str]:
    seconds = ("planned_seconds", "seconds", "cpu_seconds", "gpu_seconds")
    rows = [
        (
            kind["kind"],
            f"{kind['done']}/{kind['stages']}",
            *(f"{kind[name]:.1f}" for name in seconds),
            *words.costs.rates(kind["rates"]),
        )
        for kind in cost["by_kind"]
    ]
    head = ("stage", "done", "planned s", "s", "CPU s", "GPU s", *words.costs.RATES)
    return ["## Cost", "", f"{words.costs.spent(cost)}.", "", *_table(head, rows)]


def _environment(environment: Mapping[str, Any]) -> list[str]:
    values = environment["values"].items()
    return [
        *("## Environment", ""),
        *(f"- warning: {_safe(warning)}" for warning in environment["warnings"]),
        *(f"- {_safe(name)}: {_safe(', '.join(found))}" for name, found in values),
    ]


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(_safe(str(cell)) for cell in cells) + " |"

    head = list(head)
    return [line(head), "|" + "---|" * len(head), *map(line, rows), ""]


def _safe(text: str) -> str:
    """Nothing from a reason or a name may break a table or become markup."""
    text = " ".join(text.split()).replace("|", "\\|")
    return text.replace("<", "&lt;")
