"""What a stage is expected to cost: floating-point operations, time and disk.

Operations: 6 N a token for training, 2 N for a forward pass, N the weights of the encoder (and of
the decoder in masked-language modelling). A GPU's rates are an A100's: in 16 bits 82 TFLOP/s, which
BERT-Large fine-tuning sustained (NVIDIA DeepLearningExamples, 110.5 sequences/s at length 384,
fp16); in float32 12 TFLOP/s, 0.61 of its peak, the share that gradients of BERT-base reached on an
H200 (41 of 66.9 TFLOP/s, docs/results/2026-11-26-gpu.md). A CPU thread's rate is of the order
measured for a 6-layer, 384-wide BERT (900 tokens/s).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..schema import Stage, is_training
from .resources import uses_gpu

GPU_FLOPS = {"bf16": 82e12, "fp32": 12e12}  # by a recipe's precision
CPU_FLOPS = 5.7e10
START_SECONDS = 1.0  # a stage's own start on a warm worker
EXPORT_SECONDS = 10.0  # writing, compressing and checking the files of a model

# Mean tokens a row after tokenising with BERT's uncased vocabulary, special tokens included:
# sst2, stsb, qnli, mnli, qqp and squad counted over the validation rows, cola and mrpc estimated.
MEAN_TOKENS = {
    "sst2": 25.2,
    "stsb": 31.5,
    "qnli": 51.0,
    "mnli": 39.0,
    "qqp": 29.7,
    "squad": 149.0,
    "cola": 11.3,
    "mrpc": 53.2,
}


def encoder_weights(config: dict[str, Any], layers: int | None = None) -> int:
    """Weights in the linear layers of an encoder, from its configuration."""
    count = layers or config["num_hidden_layers"]
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    narrow = config.get("intra_bottleneck_size")
    if narrow is None:
        return count * (4 * hidden**2 + 2 * hidden * inner)
    feed_forwards = config.get("num_feedforward_networks", 4)
    attention = 3 * narrow**2 + hidden * narrow
    return count * (3 * hidden * narrow + attention + feed_forwards * 2 * narrow * inner)


def total_weights(config: dict[str, Any]) -> int:
    """Weights of an encoder with its embeddings, without biases, norms and heads."""
    embedding = config.get("embedding_size", config["hidden_size"])
    positions = config.get("max_position_embeddings", 512)
    return encoder_weights(config) + (config["vocab_size"] + positions) * embedding


def estimate(
    recipe: dict[str, Any],
    rows: dict[str, int],
    config: dict[str, Any],
    teacher: bool,
    gpu: bool,
    workers: int = 1,
) -> dict[str, float]:
    """Expected flops, seconds and bytes on disk of a stage; and the weights of its model."""
    if not is_training(recipe):
        return deployment(recipe, rows, config, gpu)
    training, task = recipe["training"], recipe["task"]
    tokens = tokens_of(task)
    weights = encoder_weights(config, training["keep_layers"])
    if task["name"] == "mlm":
        weights += config["vocab_size"] * config["hidden_size"]
    train_rows = capped(rows.get("train", 0), training["max_train_rows"])
    evaluated = sum(capped(n, training["max_eval_rows"]) for s, n in rows.items() if s != "train")
    passes = 6 + (2 if teacher else 0)
    flops = passes * weights * tokens * train_rows * training["epochs"]
    evaluations = max(1.0, training["epochs"] / training["evaluate_every"])
    flops += 2 * weights * tokens * evaluated * evaluations
    flops += 6 * weights * tokens * fisher_rows(recipe)
    rate = GPU_FLOPS[training["precision"]]
    size = total_weights(config)
    return _expected(flops, size, 4.0 * size, rate, gpu, workers)


def _expected(
    flops: float, weights: float, disk_bytes: float, rate: float, gpu: bool, workers: int
) -> dict[str, float]:
    return {
        "flops": flops,
        "weights": weights,
        "seconds": START_SECONDS + flops / (rate if gpu else CPU_FLOPS) / workers,
        "gpu_hours": flops / rate / 3600,
        "disk_bytes": disk_bytes,
    }


def deployment(
    recipe: dict[str, Any], rows: dict[str, int], config: dict[str, Any], gpu: bool
) -> dict[str, float]:
    """Of an export or a benchmark: on a CPU, whatever else the stages run on.

    The benchmark that wants a GPU computes in 16 bits there, and scores no rows.
    """
    weights, flops, on_gpu = encoder_weights(config), 0.0, uses_gpu(recipe)
    rate = GPU_FLOPS["bf16"]
    if (plan := recipe.get("benchmark")) is not None:
        splits = [] if on_gpu else [n for split, n in rows.items() if split != "train"]
        evaluated = sum(capped(n, plan["max_eval_rows"]) for n in splits)
        timed = 2 * (plan["warmup"] + plan["repeats"]) * sum(b * n for b, n in plan["shapes"])
        passes = evaluated * tokens_of(recipe["task"]) + timed
        flops = 2.0 * weights * passes * len(plan["engines"])
    return {
        "flops": flops,
        "weights": total_weights(config),
        "seconds": EXPORT_SECONDS + flops / (rate if gpu and on_gpu else CPU_FLOPS),
        "gpu_hours": flops / rate / 3600 if on_gpu else 0.0,
        "disk_bytes": 0.0 if flops else 4.0 * total_weights(config),
    }


def estimate_logits(
    recipe: dict[str, Any],
    rows: dict[str, int],
    config: dict[str, Any],
    gpu: bool,
    workers: int = 1,
) -> dict[str, float]:
    """Like `estimate`, of saying a teacher's logits once."""
    task = recipe["task"]
    tokens = tokens_of(task)
    asked = capped(rows.get("train", 0), recipe["logits"]["max_train_rows"])
    flops = 2 * encoder_weights(config) * tokens * asked
    a_row = task.get("num_labels") or 2 * tokens  # of spans: where each may begin and end
    rate = GPU_FLOPS[recipe["logits"]["precision"]]
    size = total_weights(config)
    return _expected(flops, size, 4.0 * a_row * asked, rate, gpu, workers)


Like = tuple[bool, str, str, float, str]  # on a GPU, kind, model, its weights, task


@dataclass
class Measured:
    """Operations a second and worker that finished stages came to, evaluation and all included.

    By whether they ran on a GPU, their kind, model, its size and task. The operations are those
    that `estimate` expects, so that where it errs for a task, it errs alike for what was measured
    and what is to come.
    """

    flops: dict[Like, float] = field(default_factory=dict)
    seconds: dict[Like, float] = field(default_factory=dict)
    stages: int = 0

    def add(self, stage: Stage, result: dict[str, Any]) -> None:
        """Take in a finished stage. One that trained nothing to speak of tells nothing."""
        flops = stage.cost.get("flops", 0.0)
        seconds = (result.get("cost") or {}).get("seconds", 0.0) - START_SECONDS
        if result.get("status") != "done" or flops <= 0 or seconds <= 0:
            return
        environment = result.get("environment") or {}
        gpu = str(environment.get("device", "cpu")).startswith("cuda")
        key = _like(stage, gpu)
        self.flops[key] = self.flops.get(key, 0.0) + flops
        workers = environment.get("workers", 1)
        self.seconds[key] = self.seconds.get(key, 0.0) + seconds * workers
        self.stages += 1

    def seconds_of(self, stage: Stage) -> float | None:
        """Of a stage to come, by the nearest that were measured: its task and model, its model."""
        own = _like(stage, stage.resources.get("gpu", 0) > 0)
        of_model = [key for key in self.flops if key[:-1] == own[:-1]]
        of_task = [key for key in of_model if key == own]
        near = of_task or of_model
        if not near:
            return None
        rate = sum(self.flops[key] for key in near) / sum(self.seconds[key] for key in near)
        return START_SECONDS + stage.cost["flops"] / rate / stage.workers


def seconds_left(stage: Stage, record: dict[str, Any] | None) -> float | None:
    """Of a running stage, by its last record; None where that does not tell."""
    rate = (record or {}).get("samples_per_second")
    batch = stage.recipe.get("training", {}).get("batch_size")
    if not record or not rate or not batch:
        return None
    return float((record["steps"] - record["step"]) * batch / rate)


def _like(stage: Stage, gpu: bool) -> Like:
    """Presets give one name to models of different sizes, whose rates differ severalfold."""
    cost, tags = stage.cost, stage.tags
    # Stages recorded without their weights: a trained one's file tells them.
    weights = cost.get("weights", cost.get("disk_bytes", 0.0) / 4)
    kind = str(stage.recipe.get("kind"))
    return gpu, kind, tags.get("model", ""), weights, tags.get("task", "")


def tokens_of(task: dict[str, Any]) -> float:
    """Mean tokens a row, as rows are counted: a packed corpus of the hub by full ones.

    Local texts are counted by lines, packed or not.
    """
    if task.get("pack") and task["source"] == "hub":
        return float(task["max_length"])
    return min(MEAN_TOKENS.get(task["name"], task["max_length"] / 2), task["max_length"])


def fisher_rows(recipe: dict[str, Any]) -> int:
    """Rows that pass through the model for inverse-Fisher estimates."""
    method, times = recipe["method"], recipe["training"]["pruning"]
    if "num_grads" not in method or times is None:
        return 0
    steps = 1
    if times["every"]:
        steps += round((times["end"] - times["start"]) / times["every"])
    rounds = method.get("num_recomputations", 1)
    return int(steps * rounds * method["num_grads"] * method["grad_batch_size"])


def capped(rows: int, most: int | None) -> int:
    return rows if most is None else min(rows, most)
