"""What is expected of stages to come: counted by hand, and from what finished ones took."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from obert_sweeps.plan.cost import (
    CPU_FLOPS,
    EXPORT_SECONDS,
    START_SECONDS,
    Measured,
    estimate,
    estimate_logits,
)
from obert_sweeps.schema import Benchmark, LearningRatePiece, PruningTimes, Stage, Training

# Weights of a layer: 4 * 4² for attention, 2 * 4 * 8 for the feed-forward part; so 256 in two.
CONFIG = {"num_hidden_layers": 2, "hidden_size": 4, "intermediate_size": 8, "vocab_size": 10}
CONFIG |= {"max_position_embeddings": 6}
FILE = 4 * (256 + (10 + 6) * 4)  # bytes, embeddings included
ROWS = {"train": 100, "validation": 30}
TOY = {"name": "toy", "max_length": 20, "num_labels": 3}  # ten tokens a row
FP32, HALF = 12e12, 82e12  # operations a second of an A100
STEPS = PruningTimes(0.0, 1.0, 0.5)  # three pruning steps


def training(name: str = "toy", method: dict[str, Any] | None = None, **more: Any) -> Any:
    line = [LearningRatePiece(2.0, 1e-4, 0.0)]
    said = Training(epochs=2.0, batch_size=8, learning_rate=line, evaluate_every=0.5)
    return {
        "kind": "train",
        "task": {**TOY, "name": name},
        "method": method or {},
        "training": asdict(replace(said, **more)),
    }


def flops(recipe: Any, teacher: bool = False) -> float:
    return estimate(recipe, ROWS, CONFIG, teacher, gpu=False)["flops"]


def test_training_is_counted_by_its_tokens() -> None:
    plain = 6 * 256 * 10 * 100 * 2 + 2 * 256 * 10 * 30 * 4  # two epochs, four evaluations
    assert flops(training()) == plain
    assert flops(training(), teacher=True) == plain + 2 * 256 * 10 * 100 * 2
    assert flops(training(keep_layers=1)) == plain / 2
    assert flops(training("mlm")) == plain / 256 * (256 + 10 * 4)  # and the decoder's
    capped = training(max_train_rows=50, max_eval_rows=15)
    assert flops(capped) == plain / 2
    assert flops(training(max_train_rows=500, max_eval_rows=500)) == plain
    assert flops(training(epochs=0.0)) == 2 * 256 * 10 * 30  # scored once


def test_rows_of_a_packed_corpus_are_full() -> None:
    """Of the hub, whose rows are counted as they are packed; local texts are counted by lines."""
    packed = training("mlm")
    weights = 256 + 10 * 4
    passes = 6 * 100 * 2 + 2 * 30 * 4  # over a token of each row
    packed["task"] |= {"pack": True, "source": "hub"}
    assert flops(packed) == passes * weights * 20
    packed["task"]["source"] = "folder"
    assert flops(packed) == passes * weights * 10
    packed["task"] |= {"pack": False, "source": "hub"}
    assert flops(packed) == passes * weights * 10


def test_each_pruning_step_takes_its_gradients() -> None:
    fisher = {"num_grads": 5, "grad_batch_size": 2}

    def rows(method: dict[str, Any], **more: Any) -> float:
        return (flops(training(method=method, **more)) - flops(training())) / (6 * 256 * 10)

    assert rows(fisher, pruning=STEPS) == 3 * 5 * 2
    assert rows(fisher, pruning=PruningTimes(0.0, 0.0)) == 5 * 2
    assert rows({**fisher, "num_recomputations": 4}, pruning=STEPS) == 4 * 3 * 5 * 2
    assert rows(fisher) == rows({}, pruning=STEPS) == 0


def test_time_is_the_device_s_and_shared_by_workers() -> None:
    recipe = training()
    cpu, gpu = (estimate(recipe, ROWS, CONFIG, False, gpu, workers=4) for gpu in (False, True))
    all_of_it = flops(recipe)
    assert cpu["seconds"] == START_SECONDS + all_of_it / CPU_FLOPS / 4
    assert gpu["seconds"] == START_SECONDS + all_of_it / FP32 / 4
    assert gpu["gpu_hours"] == all_of_it / FP32 / 3600  # of all workers together
    assert cpu["disk_bytes"] == gpu["disk_bytes"] == FILE


def test_the_rate_is_that_of_the_recipes_precision() -> None:
    half = estimate(training(precision="bf16"), ROWS, CONFIG, False, gpu=True)
    assert half["flops"] == flops(training())
    assert half["seconds"] == START_SECONDS + half["flops"] / HALF
    assert half["gpu_hours"] == half["flops"] / HALF / 3600
    # What an H200 took for float32 gradients of BERT-base, as a share of its peak, on an A100.
    measured = 6 * 84_934_656 * 4990 / 0.062 / 66.9e12
    assert pytest.approx(measured * 19.5e12, rel=0.01) == FP32


def test_logits_are_one_pass_over_the_rows_asked_for() -> None:
    def asked(task: dict[str, Any], precision: str = "fp32") -> dict[str, float]:
        logits = {"max_train_rows": 40, "precision": precision}
        recipe = {"kind": "teacher_logits", "task": task, "logits": logits}
        return estimate_logits(recipe, ROWS, CONFIG, gpu=False)

    assert asked(TOY)["flops"] == 2 * 256 * 10 * 40
    assert asked(TOY)["gpu_hours"] == 2 * 256 * 10 * 40 / FP32 / 3600
    assert asked(TOY, "bf16")["gpu_hours"] == 2 * 256 * 10 * 40 / HALF / 3600
    assert asked(TOY)["disk_bytes"] == 4 * 3 * 40
    spans = {"name": "mine", "max_length": 20}  # start and end of each token
    assert asked(spans)["disk_bytes"] == asked({**spans, "num_labels": None})["disk_bytes"]
    assert asked(spans)["disk_bytes"] == 4 * (2 * 10) * 40


def test_exports_write_a_file_and_benchmarks_time_every_engine() -> None:
    export = estimate({"kind": "export", "task": TOY}, ROWS, CONFIG, False, True)
    nothing = {"flops": 0.0, "weights": FILE / 4, "gpu_hours": 0.0}
    assert export == nothing | {"seconds": EXPORT_SECONDS, "disk_bytes": FILE}
    measured = asdict(Benchmark([{}, {}, {}], shapes=[[2, 8], [1, 8]], warmup=1, repeats=2))
    recipe = {"kind": "benchmark", "task": TOY, "benchmark": measured}
    timed = 2 * 3 * (2 * 8 + 1 * 8)  # dense and compressed, thrice
    expected = 2 * 256 * (30 * 10 + timed) * 3
    found = estimate(recipe, ROWS, CONFIG, False, True)
    assert found["flops"] == expected and found["disk_bytes"] == 0
    assert found["seconds"] == EXPORT_SECONDS + expected / CPU_FLOPS  # never on a GPU's time
    assert found["gpu_hours"] == 0.0


def test_the_benchmark_that_wants_a_gpu_takes_its_time_in_16_bits_and_scores_no_rows() -> None:
    measured = asdict(Benchmark([{}, {}], shapes=[[2, 8]], warmup=1, repeats=2, gpu=True))
    recipe = {"kind": "benchmark", "task": TOY, "benchmark": measured}
    expected = 2 * 256 * (2 * 3 * 2 * 8) * 2  # dense and sparse, thrice, in two engines
    found = estimate(recipe, ROWS, CONFIG, False, gpu=True)
    assert found["flops"] == expected and found["disk_bytes"] == 0
    assert found["seconds"] == EXPORT_SECONDS + expected / HALF
    assert found["gpu_hours"] == expected / HALF / 3600
    without = estimate(recipe, ROWS, CONFIG, False, gpu=False)
    assert without["seconds"] == EXPORT_SECONDS + expected / CPU_FLOPS


def stage(task: str, flops: float, model: str = "bert_base", **more: Any) -> Stage:
    tags = {"task": task, "model": model}
    recipe = {"kind": more.pop("kind", "train")}
    return Stage("s", "s", recipe, 1, tags=tags, cost={"flops": flops, "seconds": 77.0}, **more)


def result(seconds: float, **environment: Any) -> dict[str, Any]:
    spent = {"seconds": START_SECONDS + seconds}
    return {"status": "done", "cost": spent, "environment": {"device": "cpu", **environment}}


def test_a_stage_takes_what_those_of_its_task_and_model_took() -> None:
    measured = Measured()
    measured.add(stage("sst2", 100.0), result(10.0))
    measured.add(stage("sst2", 300.0), result(10.0))  # 20 a second with the one above
    measured.add(stage("squad", 50.0), result(10.0))  # 5 a second
    assert measured.stages == 3
    assert measured.seconds_of(stage("sst2", 40.0)) == pytest.approx(START_SECONDS + 2.0)
    assert measured.seconds_of(stage("squad", 40.0)) == pytest.approx(START_SECONDS + 8.0)
    # A task not yet seen: by its model, 450 in 30 seconds.
    assert measured.seconds_of(stage("mnli", 30.0)) == pytest.approx(START_SECONDS + 2.0)
    assert measured.seconds_of(stage("sst2", 40.0, model="bert_large")) is None
    assert measured.seconds_of(stage("sst2", 40.0, kind="benchmark")) is None


def test_a_small_model_of_the_same_name_tells_nothing_of_a_large_one() -> None:
    """The demo's bert_base is not the document's."""

    def of(config: dict[str, Any], recipe: dict[str, Any] | None = None) -> Stage:
        cost = estimate(recipe or training(), ROWS, config, False, gpu=False)
        return replace(stage("sst2", 0.0), cost=cost)

    tiny, large = of(CONFIG), of(CONFIG | {"hidden_size": 768, "intermediate_size": 3072})
    measured = Measured()
    measured.add(tiny, result(10.0))
    assert measured.seconds_of(large) is None
    assert measured.seconds_of(of(CONFIG)) == pytest.approx(START_SECONDS + 10.0)
    logits = {"max_train_rows": 40, "precision": "fp32"}
    asked = {"kind": "teacher_logits", "task": TOY, "logits": logits}
    assert estimate_logits(asked, ROWS, CONFIG, gpu=False)["weights"] == FILE / 4
    before = {k: v for k, v in tiny.cost.items() if k != "weights"}  # as it was recorded once
    measured = Measured()
    measured.add(replace(tiny, cost=before), result(10.0))
    assert measured.seconds_of(tiny) is not None and measured.seconds_of(large) is None


def test_gpus_and_workers_are_told_apart() -> None:
    measured = Measured()
    measured.add(stage("sst2", 100.0), result(10.0, workers=2))  # 5 a second and worker
    on_gpu = {"cpu": 1.0, "gpu": 1.0}
    assert measured.seconds_of(stage("sst2", 40.0, resources=on_gpu)) is None
    measured.add(stage("sst2", 1000.0, resources=on_gpu), result(10.0, device="cuda"))
    assert measured.seconds_of(stage("sst2", 40.0)) == pytest.approx(START_SECONDS + 8.0)
    assert measured.seconds_of(stage("sst2", 40.0, workers=4)) == pytest.approx(START_SECONDS + 2.0)
    fast = measured.seconds_of(stage("sst2", 400.0, resources=on_gpu))
    assert fast == pytest.approx(START_SECONDS + 4.0)


def test_what_did_not_end_well_or_trained_nothing_tells_nothing() -> None:
    measured = Measured()
    measured.add(stage("sst2", 100.0), {**result(10.0), "status": "not_converged"})
    measured.add(stage("sst2", 0.0), result(10.0))
    measured.add(stage("sst2", 100.0), result(-0.5))
    measured.add(stage("sst2", 100.0), {"status": "done"})
    assert measured.stages == 0 and measured.seconds_of(stage("sst2", 1.0)) is None
