"""An export and a benchmark, as their stages' results have them."""

from __future__ import annotations

from typing import Any

from report.fake_sweep import FakeSweep

from obert_sweeps.schema import Stage

CELL = "t3/squad/bert_large/obert/95"
MISSING = "it needs an environment of its own. make deepsparse (evaluation only)"
WRONG = "its logits differ by 0.95 | <b>far</b>"


def times(median: float, p95: float, rows: int) -> dict[str, float]:
    return {"median_ms": median, "p95_ms": p95, "cpu_ms": median / 2, "throughput": rows / median}


def side(version: str, file: str, share: float | None, **flags: Any) -> dict[str, Any]:
    products = {} if share is None else {"products": {"share": share}}
    facts = {"difference": 0.01, "version": version, "threads": 2, "flags": flags, "file": file}
    return {**facts, **products}


def figure(batch: int, dense: float, compressed: float) -> dict[str, Any]:
    return {
        "batch": batch,
        "length": 384,
        "dense": times(dense, 2 * dense, batch),
        "compressed": times(compressed, 3 * compressed, batch),
        "speedup": dense / compressed,
        "cpu_speedup": 1.5,
    }


def add_inference(fake: FakeSweep) -> None:
    """Let the cell's chain end with an export and a benchmark."""
    plan = fake.cells[CELL]
    for name in ("export", "benchmark"):
        fake.stages[name] = Stage(name, f"{name} of it", {"kind": name}, 1, tags={"role": name})
        plan.stages.append(name)
    fake.results["export"] = {
        "status": "done",
        "sizes": {
            "model.qdq.onnx": {"raw": 300_000_000, "gzip": 40_000_000, "zstd": 39_000_000},
            "model.integer.onnx": {"raw": 310_000_000, "gzip": 41_000_000, "zstd": 40_000_000},
        },
        "ratios": {"document": 32.5, "gzip": 30.0, "raw": 4.25, "zstd": 31.0},
    }
    fake.results["benchmark"] = {
        "status": "done",
        "engine": "openvino",
        "benchmark": {
            "machine": {"cpu": "Some CPU", "gpu": None, "host": "there"},
            "threads": 2,
            "warmup": 3,
            "repeats": 7,
            "engines": [
                {
                    "engine": "openvino",
                    "dense": side("2026.4-long-build", "model.onnx", 0.0, hint="f32"),
                    "compressed": side("2026.4-long-build", "model.qdq.onnx", 0.75, hint="f32"),
                    "figures": [figure(128, 1000.0, 250.0), figure(1, 10.0, 5.0)],
                    "metrics": {"f1": 90.25, "em": None},
                },
                {"engine": "deepsparse", "missing": MISSING},
                {"engine": "onnxruntime", "dense": {"difference": 0.0}, "wrong": WRONG},
            ],
        },
    }
