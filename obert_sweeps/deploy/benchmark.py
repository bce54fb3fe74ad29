"""Throughput and latency of a model, or of a dense and a compressed one in turn, in each engine."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..schema import Runtime, StageError
from ..train.machine import environment
from .agreement import difference, tolerance
from .engines.base import Arrays, Engine, EngineFailed, Outcome
from .engines.onnx_runtime import OnnxRuntime
from .engines.torch_dense import TorchDense

Side = str  # dense or compressed


@dataclass
class BenchmarkPlan:
    """What is measured. `inputs(batch, length)` gives a batch of exactly that shape.

    `folders` has the dense model, the compressed one, or both. `check` is the shape at which
    engines are compared before they are timed. `score` is asked of each engine that was, with the
    model at hand (the compressed one where there are two) still loaded.
    """

    folders: Mapping[Side, Path]
    inputs: Callable[[int, int], Arrays]
    shapes: Sequence[tuple[int, int]]
    warmup: int = 2
    repeats: int = 10
    check: tuple[int, int] | None = None
    quantized: bool = True  # whether the compressed model is
    score: Callable[[Engine], dict[str, Any]] | None = None

    def checked(self) -> Arrays:
        """The batch on which engines are compared."""
        return self.inputs(*(self.check or self.shapes[0]))


def benchmark(
    plan: BenchmarkPlan,
    makers: Sequence[tuple[type[Engine], dict[str, Any]]],
    how: Runtime | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """One document: the machine, and for each engine its version, flags, checks and figures.

    how: its device names the machine, its threads are those of engines on a CPU; without it one
    thread of a CPU. An engine that is not here is reported with what it takes to get it
    (`missing`), one that fails or computes something else than ONNX Runtime with `wrong`; neither
    has figures.
    """
    how = how or Runtime(store="")
    expected = reference(plan, how.threads)
    report: dict[str, Any] = {
        "machine": environment(how, torch.device(how.device)),
        "threads": how.threads,
        "warmup": plan.warmup,
        "repeats": plan.repeats,
        "engines": [],
    }
    for kind, options in makers:
        note(kind.name)
        if (mend := kind.missing()) is not None:
            report["engines"].append({"engine": kind.name, "missing": mend})
            continue
        how_made = {**options, "threads": how.threads}
        report["engines"].append(measure(plan, kind, how_made, expected, note))
    return report


def reference(plan: BenchmarkPlan, threads: int) -> dict[Side, dict[str, np.ndarray]]:
    """The right logits of the models on the batch that engines are checked with."""
    found = {}
    batch = plan.checked()
    for side, folder in plan.folders.items():
        engine = judge(folder)(threads=threads)
        engine.load(folder)
        found[side] = engine.run(batch).logits
        engine.close()
    return found


def judge(folder: Path) -> type[Engine]:
    """Whose logits count as right: ONNX Runtime's, or torch's for a checkpoint without ONNX."""
    return OnnxRuntime if any(folder.glob("*.onnx")) else TorchDense


def measure(
    plan: BenchmarkPlan,
    kind: type[Engine],
    options: dict[str, Any],
    expected: dict[Side, dict[str, np.ndarray]],
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """One engine: both models loaded, checked, and timed in turn."""
    row: dict[str, Any] = {"engine": kind.name}
    engines: dict[Side, Engine] = {}
    try:
        ours = kind(**options)
        for side, folder in plan.folders.items():
            engines[side] = ours.beside() if side == "dense" else ours
            engines[side].load(folder)
        batch = plan.checked()
        for side, engine in engines.items():
            apart = difference(
                engine.run(batch).logits, expected[side], np.asarray(batch["attention_mask"])
            )
            row[side] = {"difference": apart}
            allowed = tolerance(plan.quantized and side == "compressed", engine.reduced)
            if apart > allowed:
                right = judge(plan.folders[side]).name
                raise StageError(
                    f"its logits of the {side} model differ from {right}'s by {apart:.3g}"
                    f" (relative RMS; the limit is {allowed:g})"
                )
        figures = []
        for shape in plan.shapes:
            figures.append(timed(plan, engines, shape))
            times = (f"{side} {figures[-1][side]['median_ms']:.2f} ms" for side in engines)
            note(f"{kind.name}, {shape[0]} x {shape[1]}: {', '.join(times)}")
        for side, engine in engines.items():
            row[side] |= engine.describe()
        row["figures"] = figures
    except StageError as error:
        row["wrong"] = str(error)
    else:
        if plan.score is not None:
            row = scored(plan.score, engines.get("compressed") or engines["dense"], row)
    finally:
        for engine in engines.values():
            engine.close()
    return row


def scored(
    score: Callable[[Engine], dict[str, Any]], engine: Engine, row: dict[str, Any]
) -> dict[str, Any]:
    """The row with its metrics; of an engine that fails on the way, wrong and without figures.

    Other errors are the task's, or the stage's.
    """
    try:
        return {**row, "metrics": score(engine)}
    except EngineFailed as error:
        without = {key: value for key, value in row.items() if key != "figures"}
        return {**without, "wrong": f"while it was scored: {error}"}


def timed(
    plan: BenchmarkPlan, engines: dict[Side, Engine], shape: tuple[int, int]
) -> dict[str, Any]:
    """The models at one batch and length, a repeat of each in turn.

    `speedup` is of wall times, what a user waits; `cpu_speedup` of CPU times, which work of others
    on the same cores disturbs less.
    """
    batch = plan.inputs(*shape)
    runs: dict[Side, list[Outcome]] = {side: [] for side in engines}
    for _ in range(plan.warmup):
        for engine in engines.values():
            engine.run(batch)
    for _ in range(plan.repeats):
        for side, engine in engines.items():
            runs[side].append(engine.run(batch))
    figures: dict[str, Any] = {"batch": shape[0], "length": shape[1]}
    for side, outcomes in runs.items():
        times = [outcome.seconds for outcome in outcomes]
        figures[side] = {
            "median_ms": 1e3 * statistics.median(times),
            "p95_ms": 1e3 * float(np.percentile(times, 95)),
            "cpu_ms": 1e3 * statistics.median(outcome.cpu_seconds for outcome in outcomes),
            "throughput": shape[0] / statistics.median(times),
        }
    for name, key in (("speedup", "median_ms"), ("cpu_speedup", "cpu_ms")):
        if len(engines) > 1:
            figures[name] = figures["dense"][key] / figures["compressed"][key]
    return figures


def random_inputs(vocab_size: int, seed: int = 0) -> Callable[[int, int], dict[str, np.ndarray]]:
    """Batches of random tokens without padding: for timing, where what the tokens say is no matter.

    The document's figures count padding as computed, so full rows are like its own.
    """

    def batch(rows: int, length: int) -> dict[str, np.ndarray]:
        ids = np.random.default_rng(seed).integers(0, vocab_size, (rows, length))
        types = np.zeros_like(ids)
        types[:, length // 2 :] = 1
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}

    return batch
