"""What exported models weigh, and how fast they are and what they score in inference engines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from ..catalogue.cell import metric_named
from ..schema import Stage
from .source import CellView, StoreView

COLUMNS = (
    *("stage", "cells", "engine", "version", "threads", "flags", "file", "batch", "length"),
    *("dense_ms", "dense_p95_ms", "dense_cpu_ms", "ms", "p95_ms", "cpu_ms", "throughput"),
    *("speedup", "cpu_speedup", "integer_share", "difference", "metrics", "cpu", "gpu", "host"),
    *("licence", "missing", "wrong"),
)


def inference(
    cells: Iterable[CellView], stages: Mapping[str, Stage], store: StoreView
) -> dict[str, Any]:
    """`benchmarks`: an entry a finished benchmark stage; `sizes`: one an exported file."""
    users: dict[str, list[str]] = {}
    for plan in cells:
        for stage in plan.stages:
            users.setdefault(stage, []).append(plan.cell.id)
    found = {i: store.result(i) or {} for i in users if i in stages}
    return {
        "benchmarks": [
            _benchmark(stages[i], users[i], result)
            for i, result in found.items()
            if "benchmark" in result
        ],
        "sizes": [
            {"stage": i, "cells": users[i], "name": stages[i].name, "file": file, **sizes}
            | {"ratios": result.get("ratios") if first == 0 else None}
            for i, result in found.items()
            for first, (file, sizes) in enumerate((result.get("sizes") or {}).items())
        ],
    }


def _benchmark(stage: Stage, cells: list[str], result: Mapping[str, Any]) -> dict[str, Any]:
    report = result["benchmark"]
    return {
        "stage": stage.id,
        "name": stage.name,
        "cells": cells,
        "fastest": result.get("engine"),
        **{key: report[key] for key in ("machine", "threads", "warmup", "repeats")},
        "rows": [row for engine in report["engines"] for row in _rows(engine)],
        "absent": [
            {"engine": engine["engine"], "what": what, "reason": engine[what]}
            for engine in report["engines"]
            for what in ("missing", "wrong")
            if what in engine
        ],
    }


def _rows(engine: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """A row a shape. Of a dense model alone its own times are `ms`."""
    sides = [engine[side] for side in ("dense", "compressed") if side in engine]
    for figure in engine.get("figures", []):
        dense, own = figure["dense"], figure.get("compressed", figure["dense"])
        compared = "compressed" in figure
        yield {
            "engine": engine["engine"],
            "version": sides[-1]["version"],
            "threads": sides[-1]["threads"],
            "flags": sides[-1]["flags"],
            "licence": sides[-1].get("licence"),
            "file": sides[-1]["file"],
            "batch": figure["batch"],
            "length": figure["length"],
            "dense_ms": dense["median_ms"] if compared else None,
            "dense_p95_ms": dense["p95_ms"] if compared else None,
            "dense_cpu_ms": dense["cpu_ms"] if compared else None,
            "ms": own["median_ms"],
            "p95_ms": own["p95_ms"],
            "cpu_ms": own["cpu_ms"],
            "throughput": own["throughput"],
            "speedup": figure.get("speedup"),
            "cpu_speedup": figure.get("cpu_speedup"),
            "integer_share": (sides[-1].get("products") or {}).get("share"),
            "difference": sides[-1]["difference"],
            "metrics": engine.get("metrics") or {},
        }


HEAD = (
    *("engine", "file", "batch × length", "dense ms (p95)", "ms (p95)"),
    *("rows a second", "speed-up", "of CPU time", "in integers", "scores in it"),
)


def shown(entry: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The rows of a benchmark under `HEAD`, as people read them."""
    return [
        (
            f"{_label(row)} {row['version'].partition('-')[0]}",
            row["file"],
            f"{row['batch']} × {row['length']}",
            _time(row["dense_ms"], row["dense_p95_ms"]),
            _time(row["ms"], row["p95_ms"]),
            f"{row['throughput']:,.1f}",
            _times(row["speedup"]),
            _times(row["cpu_speedup"]),
            "–" if row["integer_share"] is None else f"{row['integer_share']:.0%}",
            scores(row["metrics"]) or "–",
        )
        for row in entry["rows"]
    ]


SIZES = ("file", "MB", "gzip MB", "zstd MB", "dense raw by gzip", "gzip by gzip", "raw by raw")


def sizes_shown(entries: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The exported files under `SIZES`; the document counts dense raw by compressed gzip bytes."""
    return [
        (
            entry["file"],
            *(f"{entry[kind] / 1e6:,.3f}" for kind in ("raw", "gzip", "zstd")),
            *(_times((entry["ratios"] or {}).get(k)) for k in ("document", "gzip", "raw")),
        )
        for entry in entries
    ]


def machine(entry: Mapping[str, Any]) -> str:
    """AMD EPYC, 1 thread; 2 warm-ups, median of 10."""
    found, threads = entry["machine"], entry["threads"]
    place = ", ".join(str(found[key]) for key in ("gpu", "cpu") if found.get(key))
    return (
        f"{place}, {threads} thread{'' if threads == 1 else 's'};"
        f" after {entry['warmup']} warm-ups the median of {entry['repeats']}"
    )


def flags(entry: Mapping[str, Any]) -> dict[str, str]:
    """By engine its whole version, its licence where it is restricted, and what it was told."""
    return {
        _label(row): "; ".join(
            part
            for part in (
                row["version"],
                row["licence"],
                ", ".join(f"{key}={value}" for key, value in row["flags"].items()),
            )
            if part
        )
        for row in entry["rows"]
    }


def _label(row: Mapping[str, Any]) -> str:
    """The engine; of torch's also how it ran, since it may be measured in more than one way."""
    told = row["flags"]
    if "compiled" not in told:
        return str(row["engine"])
    return f"{row['engine']}, {told['precision']}, {'compiled' if told['compiled'] else 'eager'}"


def scores(metrics: Mapping[str, float | None]) -> str:
    return " / ".join(
        f"{metric_named(name).label} {value:.2f}"
        for name, value in metrics.items()
        if value is not None
    )


def inference_sheet(found: Mapping[str, Any]) -> str:
    """inference.csv: a row an engine and shape, or an engine that was missing or wrong."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for entry in found["benchmarks"]:
        about = {"stage": entry["stage"], "cells": " ".join(entry["cells"])}
        about |= {key: entry["machine"].get(key) for key in ("cpu", "gpu", "host")}
        for row in entry["rows"]:
            told = {"flags": _pairs(row["flags"]), "metrics": _pairs(row["metrics"])}
            writer.writerow({**about, **row, **told})
        for row in entry["absent"]:
            writer.writerow({**about, "engine": row["engine"], row["what"]: row["reason"]})
    return out.getvalue()


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items() if value is not None)


def _time(median: float | None, p95: float | None) -> str:
    return "–" if median is None else f"{median:,.2f} ({p95:,.2f})"


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}x"
