"""report.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..catalogue.layouts import layouts
from . import inference_words, words
from .effort import QUANTITIES as EFFORT
from .fairness import fairness


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report as GitHub-flavoured Markdown, ending in a newline."""
    titles = {layout.table: f"Table {layout.table}: {layout.title}" for layout in layouts()}
    lines = ["# Measured beside published", "", words.tally(report["cells"]) + ".", ""]
    lines += [f"Compared {_safe(report['audit']['comparison'])}.", ""]
    for number in sorted({entry["table"] for entry in report["cells"]}):
        lines += [f"## {titles.get(number, 'Your own cells')}", ""]
        entries = [entry for entry in report["cells"] if entry["table"] == number]
        head = ("cell", "measured", "published", "recovery (document)", "rank (document)")
        lines += _table((*head, "verdict", "difference"), map(_cell, entries))
        lines += _remarks(entries)
    if report["neighbours"]:
        lines += ["## Beside them in this store", ""]
        lines += _table(words.NEIGHBOUR, map(words.neighbour, report["neighbours"]))
    if report["claims"]:
        lines += ["## Claims", ""]
        for claim in report["claims"]:
            sign = words.MARKS[claim["verdict"]][0]
            lines.append(f"- {sign} **{words.claim(claim)}**: {_safe(claim['text'])}")
            lines += [f"  - {_safe(words.comparison(item))}" for item in claim["evidence"]]
        lines.append("")
    lines += _inference(report["inference"])
    lines += ["## Fairness: knobs set per task", ""]
    lines += _table(
        ("table", "method", "tasks", "knobs that differ by task"),
        (
            (g["table"], g["method"], ", ".join(g["tasks"]), words.knobs(g))
            for g in _compared(report)
        ),
    )
    lines += ["## Fairness: what each method was given", ""]
    lines += _table(
        ("table", "method", "tasks", "recovery (document)", *(q.replace("_", " ") for q in EFFORT)),
        (
            (
                row["table"],
                words.method(row),
                ", ".join(row["tasks"]),
                words.mean_recovery(row),
                *(words.effort(row, q) for q in EFFORT),
            )
            for row in fairness(report)
        ),
    )
    cost = report["cost"]
    lines += ["## Cost", ""]
    lines.append(f"{words.spent(cost)}.")
    lines.append("")
    columns = ("planned_seconds", "seconds", "cpu_seconds", "gpu_seconds")
    lines += _table(
        ("stage", "done", "planned s", "s", "CPU s", "GPU s", *words.RATES),
        (
            (
                k["kind"],
                f"{k['done']}/{k['stages']}",
                *(f"{k[c]:.1f}" for c in columns),
                *words.rates(k["rates"]),
            )
            for k in cost["by_kind"]
        ),
    )
    lines += ["## Environment", ""]
    lines += [f"- warning: {_safe(warning)}" for warning in report["environment"]["warnings"]]
    lines += [
        f"- {_safe(name)}: {_safe(', '.join(values))}"
        for name, values in report["environment"]["values"].items()
    ]
    return "\n".join(lines).rstrip() + "\n"


def _cell(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        entry["id"],
        words.measured(entry),
        words.published(entry),
        words.recovery(entry),
        words.rank(entry),
        words.verdict(entry),
        words.widths(entry),
    )


def _remarks(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    lines = []
    for entry in entries:
        parts = [entry["reason"] or "", *entry["notes"]]
        parts += [f"{name} not measured: {why}" for name, why in entry["not_measured"].items()]
        if text := "; ".join(part for part in parts if part):
            lines.append(f"- `{entry['id']}`: {_safe(text)}")
    return [*lines, ""] if lines else []


def _inference(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for entry in found["benchmarks"]:
        lines += [
            f"### {_safe(entry['name'])}",
            "",
            f"{_safe(inference_words.machine(entry))}.",
            "",
        ]
        lines += _table(inference_words.HEAD, inference_words.shown(entry)) if entry["rows"] else []
        lines += [
            f"- {row['engine']} is {row['what']}: {_safe(row['reason'])}" for row in entry["absent"]
        ]
        lines += [
            f"- {name}: {_safe(flags)}" for name, flags in inference_words.flags(entry).items()
        ]
        lines.append("")
    if found["sizes"]:
        names = [entry["name"] for entry in found["sizes"]]
        rows = zip(names, inference_words.sizes_shown(found["sizes"]), strict=True)
        lines += ["### Sizes", ""]
        lines += _table(("export", *inference_words.SIZES), ((name, *row) for name, row in rows))
    return ["## Inference", "", *lines] if lines else []


def _compared(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [group for group in report["audit"]["methods"] if len(group["tasks"]) > 1]


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(_safe(str(cell)) for cell in cells) + " |"

    head = list(head)
    return [line(head), "|" + "---|" * len(head), *map(line, rows), ""]


def _safe(text: str) -> str:
    """Nothing from a reason or a name may break a table or become markup."""
    text = " ".join(text.split()).replace("|", "\\|")
    return text.replace("<", "&lt;")
