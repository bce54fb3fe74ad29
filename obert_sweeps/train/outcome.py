"""What a stage came to: its metrics, its sparsity, and whether it converged, with the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..sparsity.mask import Masks
from ..task.base import Task
from .evaluate import DISTINCT
from .journal import finite
from .state import State


def outcome(
    task: Task,
    state: State,
    evidence: dict[str, Any] | None,
    layers: Mapping[str, nn.Linear],
) -> dict[str, Any]:
    """What the weights, as they now are, came to; `evidence` if training diverged.

    Not converged is a stage whose loss or weights are not finite, or whose metric is undefined on
    what it predicts: a correlation (Matthews' too) where all predictions are the same. One class
    for all rows is otherwise a result with its accuracy, and a remark.
    """
    undefined = dict.fromkeys(task.metrics, float("nan"))
    final = undefined if evidence else state.metrics
    chosen = state.best.metrics if state.best else final
    metrics = finite({name: chosen[name] for name in task.metrics if name in chosen})
    remark = constant(task, chosen)
    lost = [name for name, value in metrics.items() if value is None]
    if remark:
        lost += [name for name in task.correlations if name not in lost]
    if lost and evidence is None:
        reason = f"undefined on this model's predictions: {', '.join(lost)}"
        evidence = {"reason": f"{reason}; {remark}" if remark else reason}
    measured = Masks.from_zeros(dict(layers))
    result: dict[str, Any] = {
        "status": "not_converged" if lost else "done",
        "metrics": metrics,
        "final_metrics": finite({name: final[name] for name in task.metrics if name in final}),
        "steps": state.step,
        "sparsity": {"overall": measured.sparsity(), "layers": measured.by_layer()},
    }
    if not measured.is_dense:
        result["sparsity"]["structure"] = measured.structure()
    if state.best is not None:
        result["best_epoch"] = state.best.epoch
    if evidence is not None:
        result["evidence"] = evidence
    elif remark:
        result["remark"] = remark
    return result


def constant(task: Task, evaluation: Mapping[str, float]) -> str | None:
    """What is predicted for every row, if it is the same for all of each split."""
    counts = [count for name, count in evaluation.items() if name.startswith(DISTINCT)]
    if not counts or max(counts) > 1:
        return None
    return f"one {task.head.predicts} is predicted for all rows"
