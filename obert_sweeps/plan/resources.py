"""What a stage asks of the cluster: workers, GPUs, and one answer of its teacher for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..schema import RequestError, is_training


def divides(recipe: dict[str, Any]) -> bool:
    """Whether several workers can share a stage.

    Not deployment; nor training in INT8, whose ranges each worker would see another part of.
    """
    return is_training(recipe) and recipe["training"]["quantize"] is None


def uses_gpu(recipe: dict[str, Any]) -> bool:
    """Whether a stage runs on a GPU where there is one: training, and what is timed there."""
    return is_training(recipe) or recipe.get("benchmark", {}).get("gpu", False)


def asks_once(cluster: Any) -> bool:
    """Whether teachers say their logits once, for all students."""
    return bool(cluster.teacher_logits == "once")


def gpus_of(cluster: Any) -> float:
    """GPUs a worker asks for: `auto` is one where this machine has an NVIDIA device, else none."""
    asked = cluster.gpus_per_stage
    if asked == "auto":
        return 1.0 if Path("/dev/nvidia0").exists() else 0.0
    return float(asked)


def workers_of(cluster: Any, gpus: float) -> int:
    """Processes that share one stage. RequestError where they could not."""
    workers = int(cluster.workers_per_stage)
    if workers > 1 and cluster.runner == "inline":
        raise RequestError(
            f"cluster.workers_per_stage={workers} needs Ray, which starts and watches the other "
            "processes, and cluster=inline is one process. Use cluster=local "
            f"cluster.workers_per_stage={workers}, or cluster.workers_per_stage=1"
        )
    if workers > 1 and gpus and not float(gpus).is_integer():
        raise RequestError(
            f"cluster.workers_per_stage={workers} with cluster.gpus_per_stage={gpus:g}: workers do "
            "not share a GPU. Use cluster.gpus_per_stage=1, or cluster.workers_per_stage=1"
        )
    return workers
