"""What exported models weigh, and how fast they are and what they score in inference engines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...schema import Stage
from .views import CellView, StoreView


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
    model = engine.get("compressed", engine.get("dense", {}))
    for figure in engine.get("figures", []):
        own = figure.get("compressed", figure["dense"])
        beside = figure["dense"] if "compressed" in figure else {}
        yield {
            "engine": engine["engine"],
            **{key: model[key] for key in ("version", "threads", "flags")},
            "licence": model.get("licence"),
            "file": model["file"],
            "batch": figure["batch"],
            "length": figure["length"],
            "dense_ms": beside.get("median_ms"),
            "dense_p95_ms": beside.get("p95_ms"),
            "dense_cpu_ms": beside.get("cpu_ms"),
            "ms": own["median_ms"],
            **{key: own[key] for key in ("p95_ms", "cpu_ms", "throughput")},
            "speedup": figure.get("speedup"),
            "cpu_speedup": figure.get("cpu_speedup"),
            "integer_share": (model.get("products") or {}).get("share"),
            "difference": model["difference"],
            "metrics": engine.get("metrics") or {},
        }
