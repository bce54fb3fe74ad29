"""What predictions come to: for each GLUE metric, a number, a remark, or no convergence."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from tiny_run import a_run

from obert_sweeps.task.base import Features, Task
from obert_sweeps.task.glue import Glue
from obert_sweeps.train.evaluate import evaluate
from obert_sweeps.train.forward import Setup
from obert_sweeps.train.outcome import outcome

CPU = torch.device("cpu")
GLUE = ["mnli", "qqp", "qnli", "mrpc", "sst2", "cola", "stsb"]
LABELS = [0, 1, 1, 0, 1, 1]


class Fixed(torch.nn.Module):
    """Gives row i the logits i of a list; a row's only token is its number."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.given = torch.tensor(logits)

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return type("Outputs", (), {"logits": self.given[input_ids[:, 0]]})


def glue(project_root: Path, name: str) -> Glue:
    keys = yaml.safe_load((project_root / f"conf/task/{name}.yaml").read_text())
    del keys["_target_"]
    return Glue(**{**keys, "source": "generated"})


def came_to(task: Task, logits: list[list[float]]) -> dict[str, Any]:
    rows = [
        {"input_ids": [i], "token_type_ids": [0], "labels": LABELS[i]} for i in range(len(LABELS))
    ]
    splits = [Features(split, rows, LABELS) for split in task.evaluation_splits]
    data: Any = SimpleNamespace(task=task, evaluation=splits, pad_token_id=0)
    run, state, _ = a_run()
    state.metrics = evaluate(Fixed(logits), data, Setup(CPU))
    return outcome(task, state, None, run.layers)


def logits_of(task: Glue, predicted: list[int]) -> list[list[float]]:
    if task.head.name == "regression":
        return [[float(p)] for p in predicted]
    return [[1.0 if c == p else 0.0 for c in range(task.num_labels)] for p in predicted]


@pytest.mark.parametrize("name", GLUE)
def test_predictions_that_differ_are_a_result_without_remark(project_root: Path, name: str) -> None:
    task = glue(project_root, name)
    found = came_to(task, logits_of(task, [0, 1, 1, 0, 1, 0]))
    assert found["status"] == "done" and "evidence" not in found and "remark" not in found
    assert set(found["metrics"]) == set(task.metrics) and None not in found["metrics"].values()


@pytest.mark.parametrize("name", GLUE)
def test_one_prediction_for_all_rows(project_root: Path, name: str) -> None:
    """A correlation of it is 0 / 0: not converged. An accuracy is the share of that class."""
    task = glue(project_root, name)
    found = came_to(task, logits_of(task, [1] * 6))
    if name in ("cola", "stsb"):
        assert found["status"] == "not_converged" and "remark" not in found
        what = "one score" if name == "stsb" else "one class"
        assert f"; {what} is predicted for all rows" in found["evidence"]["reason"]
        assert all(metric in found["evidence"]["reason"] for metric in task.metrics)
    else:
        assert found["status"] == "done" and "evidence" not in found
        assert found["remark"] == "one class is predicted for all rows"
        assert found["metrics"]["accuracy"] == pytest.approx(100 * 4 / 6, abs=1e-4)


def test_a_matthews_correlation_of_nought_by_other_predictions_is_a_number(
    project_root: Path,
) -> None:
    task = glue(project_root, "cola")
    found = came_to(task, logits_of(task, [0, 1, 1, 1, 1, 0]))  # 1/2 of each class: tp 3 fp 1
    tp, fp, fn, tn = 3, 1, 1, 1
    by_hand = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert found["metrics"]["mcc"] == pytest.approx(100 * by_hand, abs=1e-4)
    level = came_to(task, logits_of(task, [0, 0, 1, 1, 0, 1]))  # class 1 for half of either label
    assert level["status"] == "done" and level["metrics"]["mcc"] == pytest.approx(0.0, abs=1e-4)


def test_the_metrics_are_those_of_the_weights_that_are_kept(project_root: Path) -> None:
    run, state, _ = a_run()
    state.metrics = {"accuracy": 80.0, "loss": 0.5}
    state.keep_best(80.0, 1.0)
    state.metrics = {"accuracy": 70.0, "loss": 0.4}
    found = outcome(run.data.task, state, None, run.layers)
    assert (found["metrics"], found["best_epoch"]) == ({"accuracy": 80.0, "loss": 0.5}, 1.0)
    assert found["final_metrics"] == {"accuracy": 70.0, "loss": 0.4}
    diverged = outcome(run.data.task, state, {"reason": "the loss"}, run.layers)  # later than that
    assert diverged["status"] == "done" and diverged["metrics"] == found["metrics"]
    assert set(diverged["final_metrics"].values()) == {None}


def test_logits_that_are_not_finite_are_no_convergence(project_root: Path) -> None:
    for name in ("sst2", "stsb"):
        task = glue(project_root, name)
        logits = logits_of(task, LABELS)
        logits[2] = [math.nan] * len(logits[2])
        found = came_to(task, logits)
        assert found["status"] == "not_converged" and set(found["metrics"].values()) == {None}


def test_one_split_that_differs_is_enough(project_root: Path) -> None:
    """MNLI has two; the same class on one of them alone says nothing."""
    task = glue(project_root, "mnli")
    given = iter([[1] * 6, [0, 1, 1, 0, 1, 0]])
    rows = [Features(split, [{}] * 6, LABELS) for split in task.evaluation_splits]
    run, state, _ = a_run()
    for features in rows:
        found = [(torch.tensor(row),) for row in logits_of(task, next(given))]
        state.metrics |= task.score(features, found)
        state.metrics[f"distinct_predictions/{features.split}"] = task.distinct_predictions(found)
    assert "remark" not in outcome(task, state, None, run.layers)
