"""A benchmark: exported models in inference engines, their speed and what they score there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..deploy.benchmark import BenchmarkPlan, benchmark, random_inputs
from ..deploy.engine_model import EngineModel
from ..deploy.engines.base import Engine
from ..deploy.engines.known import engine_of
from ..model.check import check_checkpoint
from ..schema import Benchmark, Runtime, Stage
from ..train.cost import read_clocks, spent_since
from ..train.data import Data
from ..train.evaluate import evaluate
from ..train.forward import Setup
from ..train.journal import finite
from ..train.machine import prepare_torch
from ..worker_group import WorkerGroup
from .base import Result, StageWriter, finished
from .files import parent_models, parent_result
from .leaves import encoder_of, task_of


def benchmark_stage(
    spec: Stage, how: Runtime, group: WorkerGroup, writer: StageWriter | None
) -> Result | None:
    """Time each engine, and on CPUs score the validation rows in it.

    `metrics` are those of the engine with the most throughput at the first shape, among those that
    compute the right thing; it is named in `engine`. Where none did there is no speed, the scores
    are those of torch, and a remark says so. `benchmark` has all engines.
    """
    if writer is None:
        return None
    begun, plan = read_clocks(), Benchmark(**spec.recipe["benchmark"])
    how = how if plan.gpu else replace(how, device="cpu")
    device = prepare_torch(how)
    engines = [engine_of(leaf) for leaf in plan.engines]
    report = benchmark(_plan(spec, how, plan), engines, how, writer.folder.log)
    rows = report["engines"]
    for row in rows:
        for word, reason in faults(row):
            writer.folder.log(f"{row['engine']} is {word}: {reason}")
    start = parent_result(spec, how, "start")
    best = fastest(rows)
    remark = {} if best else {"remark": none_ran(rows)}
    found = {
        "metrics": start["metrics"] | (metrics_of(best, plan.gpu) if best else {}),
        "sparsity": start["sparsity"],
        "engine": best["engine"] if best else None,
        **remark,
        "benchmark": report,
    }
    return finished(spec, how, device, spent_since(begun), found)


def fastest(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The engine with the most throughput of the model at the first shape; None if none ran."""
    right = [row for row in rows if row.get("figures")]
    return max(right, key=lambda row: _timed(row["figures"][0])["throughput"], default=None)


def faults(row: dict[str, Any]) -> list[tuple[str, str]]:
    """What kept an engine from being timed: missing or wrong, and why."""
    return [(word, row[word]) for word in ("missing", "wrong") if word in row]


def none_ran(rows: list[dict[str, Any]]) -> str:
    """Why there is no speed, engine by engine."""
    reasons = [f"{row['engine']} is {word} ({why})" for row in rows for word, why in faults(row)]
    told = f"no engine could run it, so the scores are those of training: {'; '.join(reasons)}"
    return f"{told}; with an engine, delete this stage's folder and run the same command again"


def metrics_of(row: dict[str, Any], gpu: bool) -> dict[str, Any]:
    """Table 1's column, the best of all shapes, on a GPU; on CPUs table 3's.

    A dense model's speed is its own measure.
    """
    if gpu:
        return {"gpu_speedup": max(figure["speedup"] for figure in row["figures"])}
    first = row["figures"][0]
    speed = {"throughput": _timed(first)["throughput"], "speedup": first.get("speedup", 1.0)}
    return row["metrics"] | speed


def _timed(figure: dict[str, Any]) -> dict[str, float]:
    return figure.get("compressed") or figure["dense"]


def _plan(spec: Stage, how: Runtime, plan: Benchmark) -> BenchmarkPlan:
    models = parent_models(spec, how)
    compressed, dense = models["start"], models.get("against")
    config = check_checkpoint(str(compressed))

    def score(engine: Engine) -> dict[str, float | None]:
        """The task's metrics over the validation rows, computed by the engine."""
        task, encoder = task_of(spec, how), encoder_of(spec, how)
        tokenizer = encoder.tokenizer(str(compressed))
        data = Data(task, tokenizer, max_eval_rows=plan.max_eval_rows)
        model = EngineModel(engine, config["max_position_embeddings"])
        found = evaluate(model, data, Setup(torch.device("cpu")))
        return finite({name: found[name] for name in task.metrics if name in found})

    return BenchmarkPlan(
        folders={"dense": dense, "compressed": compressed} if dense else {"dense": compressed},
        inputs=random_inputs(config["vocab_size"]),
        shapes=[(batch, length) for batch, length in plan.shapes],
        warmup=plan.warmup,
        repeats=plan.repeats,
        quantized=any(compressed.glob("model.*.onnx")),
        score=None if plan.gpu else score,
    )
