"""report.csv and inference.csv, for whoever goes on computing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..facts.effort import QUANTITIES

COLUMNS = (
    *("cell", "table", "task", "model", "method", "sparsity", "pattern", "metric"),
    *("published", "measured", "sd", "interval_low", "interval_high", "seeds", "diverged_seeds"),
    *("difference", "half_width", "margin", "seeds_to_decide", "metric_verdict", "cell_verdict"),
    *("under_assumptions", "recovery", "published_recovery", "rank", "rank_of"),
    *("published_rank", "published_rank_of", *QUANTITIES, "stage_ids"),
)

INFERENCE_COLUMNS = (
    *("stage", "cells", "engine", "version", "threads", "flags", "file", "batch", "length"),
    *("dense_ms", "dense_p95_ms", "dense_cpu_ms", "ms", "p95_ms", "cpu_ms", "throughput"),
    *("speedup", "cpu_speedup", "integer_share", "difference", "metrics", "cpu", "gpu", "host"),
    *("licence", "missing", "wrong"),
)


def sheet(report: Mapping[str, Any]) -> str:
    """report.csv: a row a cell and metric.

    Metrics in points, shares 0..1, times in seconds; an unknown value is empty.
    """
    return _written(COLUMNS, (row for entry in report["cells"] for row in _cell_rows(entry)))


def _cell_rows(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    same = ("table", "task", "model", "method", "sparsity", "pattern")
    ranked = ("recovery", "published_recovery", "rank", "rank_of")
    for metric in dict.fromkeys([*entry["published"], *entry["measured"]]):
        judged = entry["by_metric"].get(metric) or {}
        low, high = entry["interval"].get(metric) or (None, None)
        yield {
            "cell": entry["id"],
            **{name: entry[name] for name in same},
            "metric": metric,
            "published": entry["published"].get(metric),
            "measured": entry["measured"].get(metric),
            "sd": entry["sd"].get(metric),
            "interval_low": low,
            "interval_high": high,
            "seeds": " ".join(map(str, entry["seeds"])),
            "diverged_seeds": " ".join(map(str, entry["diverged"])),
            **{
                name: judged.get(name)
                for name in ("difference", "half_width", "margin", "seeds_to_decide")
            },
            "metric_verdict": judged.get("verdict"),
            "cell_verdict": entry["verdict"],
            "under_assumptions": bool(entry["assumed"]),
            **{name: entry[name] for name in ranked},
            **{name: entry[name] for name in ("published_rank", "published_rank_of")},
            **{name: entry["effort"][name] for name in QUANTITIES},
            "stage_ids": " ".join(entry["finals"].values()),
        }


def inference_sheet(inference: Mapping[str, Any]) -> str:
    """inference.csv: a row an engine and shape, or an engine that was missing or wrong."""
    rows = (row for entry in inference["benchmarks"] for row in _benchmark_rows(entry))
    return _written(INFERENCE_COLUMNS, rows)


def _benchmark_rows(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    about = {"stage": entry["stage"], "cells": " ".join(entry["cells"])}
    about |= {key: entry["machine"].get(key) for key in ("cpu", "gpu", "host")}
    for row in entry["rows"]:
        yield {**about, **row, **{key: _pairs(row[key]) for key in ("flags", "metrics")}}
    for row in entry["absent"]:
        yield {**about, "engine": row["engine"], row["what"]: row["reason"]}


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items() if value is not None)


def _written(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
