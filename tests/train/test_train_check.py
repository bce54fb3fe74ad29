"""Training values that cannot be meant are refused by a plan, before any process starts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from obert_sweeps.plan.dag import make_plan
from obert_sweeps.request.read import read
from obert_sweeps.schema import LearningRatePiece, PruningTimes, RequestError, Training
from obert_sweeps.train.check import check_fits, check_values

DENSE = {"pattern": "dense", "level": 0.0}
GRADUAL = "cells=t4/sst2/bert_base/obert/90"


def training(**said: Any) -> dict[str, Any]:
    found = asdict(Training(epochs=3, batch_size=8, learning_rate=[LearningRatePiece(3, 1e-4, 0)]))
    return found | {"distill": None} | said


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"keep": "bset"}, "must be last or best. For instance: preset.stages.dense.keep=last"),
        ({"optimizer": "sgd"}, "must be adamw or adamax"),
        ({"precision": "fp8"}, "must be fp32 or bf16"),
        ({"group_by_length": -1}, "group_by_length=-1, and it must be at least 0"),
        ({"epochs": -1}, "at least 0"),
        ({"epochs": float("nan")}, "finite"),
        ({"epochs": float("inf")}, "finite"),
        ({"batch_size": 0}, "at least 1"),
        ({"weight_decay": -0.1}, "at least 0"),
        ({"max_grad_norm": -1}, "at least 0"),
        ({"patience": 0}, "at least 1"),
        ({"evaluate_every": 0}, "above 0"),
        ({"keep_layers": 0}, "at least 1"),
        ({"max_train_rows": 0}, "at least 1"),
        ({"max_eval_rows": -5}, "at least 1"),
        ({"quantize": {"observe_until": -1}}, "quantize.observe_until"),
        ({"distill": {"hardness": 1.5, "temperature": 2.0}}, "at least 0 and at most 1"),
        ({"distill": {"hardness": 1.0, "temperature": 0}}, "above 0"),
        ({"distill": {"hardness": "much", "temperature": 2.0}}, "a number"),
        ({"pruning": {"start": float("inf")}}, "finite"),
        ({"learning_rate": []}, "no pieces"),
        ({"learning_rate": [{"until": 0, "initial": 1, "final": 1}]}, "end after it begins"),
        ({"learning_rate": [{"until": 3, "initial": -1, "final": 1}]}, "at least 0"),
        (
            {"learning_rate": [{"until": 3, "initial": 1, "final": 1, "every": 0}]},
            "`every` be positive",
        ),
    ],
)
def test_a_value_that_cannot_be_is_refused(values: dict[str, Any], says: str) -> None:
    check_values(training(), "stage 'dense' on sst2", "preset.stages.dense")
    with pytest.raises(RequestError) as refused:
        check_values(training(**values), "stage 'dense' on sst2", "preset.stages.dense")
    assert says in str(refused.value)
    assert str(refused.value).startswith("stage 'dense' on sst2")
    assert "preset.stages.dense." in str(refused.value)


def test_without_training_there_need_be_no_rate() -> None:
    check_values(training(epochs=0, learning_rate=[]), "", "")


def test_no_more_layers_are_kept_than_there_are() -> None:
    recipe = {
        "task": {"name": "sst2", "max_length": 64},
        "training": training(keep_layers=4),
        "sparsity": DENSE,
    }
    check_fits("here", recipe, {"train": 8}, {"num_hidden_layers": 4})
    with pytest.raises(RequestError, match="the model has 3 layers"):
        check_fits("here", recipe, {"train": 8}, {"num_hidden_layers": 3})


@pytest.mark.parametrize("method", ["obert", "movement"])
def test_what_prunes_does_not_quantise(method: str) -> None:
    recipe = {
        "task": {"name": "sst2", "max_length": 64},
        "training": training(quantize={"observe_until": 1}),
        "sparsity": {"pattern": "unstructured", "level": 0.5},
        "method": {"name": method},
    }
    assert check_fits("here", recipe, {"train": 8}, {}) == {}
    recipe["training"] |= {"pruning": asdict(PruningTimes(0, 0))}
    assert check_fits("here", {**recipe, "sparsity": DENSE}, {"train": 8}, {}) == {}
    with pytest.raises(RequestError, match="here prunes and trains in INT8.*compound_large"):
        check_fits("here", recipe, {"train": 8}, {})
    recipe["training"] |= {"quantize": None}
    assert check_fits("here", recipe, {"train": 8}, {}) == {0: 0.5}


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([GRADUAL, "preset.stages.dense.keep=bset"], "For instance: preset.stages.dense.keep="),
        ([GRADUAL, "preset.stages.dense.optimizer=sgd"], "adamax"),
        ([GRADUAL, "preset.stages.transfer.distill=kd_t3"], "temperature: 2.0}"),
        ([GRADUAL, "preset.stages.upstream.level=2"], "preset.stages.upstream.level=0.9"),
        ([GRADUAL, "preset.stages.upstream.pruning.initial=1.5"], "between 0 and 1"),
        ([GRADUAL, "preset.stages.dense.keep_layers=9"], "the model has 2 layers"),
        (
            [GRADUAL, "preset.stages.upstream.quantize.observe_until=1"],
            "stage 'upstream' on mlm prunes and trains in INT8 at once",
        ),
        ([GRADUAL, "budget.max_train_rows=0"], "budget.max_train_rows=0: it must be above 0"),
        ([GRADUAL, "budget.max_epochs=-1"], "above 0"),
        (
            ["cells=t4/sst2/bert_base/lottery/90", "preset.stages.round.precision=fp8"],
            "stage 'round_",
        ),
        (
            "table=0 task=sst2 model=bert_base method=magnitude schedule=gradual"
            " schedule.stages.gradual.batch_size=0".split(),
            "schedule.stages.gradual.batch_size=1",
        ),
    ],
)
def test_a_plan_refuses_it(overrides: list[str], says: str) -> None:
    with pytest.raises(RequestError) as refused:
        make_plan(read(overrides))
    assert says in str(refused.value)
