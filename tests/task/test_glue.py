"""GLUE tasks: features, batches, losses, metrics, and refusals."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from task_cases import demo_tokenizer, glue, write

from obert_sweeps.schema import RequestError, StageError
from obert_sweeps.task.base import Features

PAIR: dict[str, Any] = {"name": "mrpc", "text_columns": ["sentence1", "sentence2"]}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return demo_tokenizer()


def test_features_are_the_rows_in_order(tokenizer: Any) -> None:
    task = glue(**PAIR)
    features = task.features("train", tokenizer)
    rows = task.source.rows("train", ["sentence1", "sentence2", "label"])
    assert len(features) == len(rows) == 60
    for feature, row in zip(features.rows, rows, strict=True):
        ids, segments = feature["input_ids"], feature["token_type_ids"]
        cut = segments.index(1)
        assert tokenizer.decode(ids[1 : cut - 1]) == row["sentence1"].lower()
        assert tokenizer.decode(ids[cut:-1]) == row["sentence2"].lower()
        assert segments == [0] * cut + [1] * (len(ids) - cut)
        assert feature["labels"] == row["label"]


def test_max_rows_and_max_length(tokenizer: Any) -> None:
    task = glue(**PAIR, max_length=12)
    features = task.features("train", tokenizer, 9)
    assert len(features) == 9
    assert max(len(row["input_ids"]) for row in features.rows) == 12
    full = sum(len(row["input_ids"]) == 12 for row in features.rows)
    assert features.notes["at_max_length"] == full > 0
    assert task.remark(features.notes) == f"rows of 12 tokens, what is longer is cut: {full}"
    assert task.remark(glue(**PAIR).features("train", tokenizer, 9).notes) is None
    assert features.rows == task.features("train", tokenizer, 9).rows


def test_collate_pads_to_the_longest(tokenizer: Any) -> None:
    task = glue()
    rows = [
        {"input_ids": [2, 9, 3], "token_type_ids": [0, 0, 0], "labels": 1},
        {"input_ids": [2, 9, 9, 9, 3], "token_type_ids": [0, 0, 1, 1, 1], "labels": 0},
    ]
    batch = task.collate(rows, 7, torch.Generator())
    assert batch["input_ids"].tolist() == [[2, 9, 3, 7, 7], [2, 9, 9, 9, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 0], [0, 0, 1, 1, 1]]
    assert batch["labels"].tolist() == [1, 0] and batch["labels"].dtype == torch.int64


def regression(**keys: Any) -> Any:
    return glue(
        **{
            "name": "stsb",
            "text_columns": ["sentence1", "sentence2"],
            "num_labels": 1,
            "metrics": ["pearson", "spearman"],
            "best_metric": "pearson",
            **keys,
        }
    )


def test_losses_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    loss = glue().head.loss(SimpleNamespace(logits=logits), {"labels": torch.tensor([1, 0])})
    assert loss.item() == pytest.approx((-math.log(0.75) - math.log(0.5)) / 2)
    scores = torch.tensor([[1.0], [4.0]], requires_grad=True)
    task = regression()
    assert task.head.name == "regression"
    batch = task.collate(
        [{"input_ids": [2], "token_type_ids": [0], "labels": x} for x in (3.0, 4.5)],
        0,
        torch.Generator(),
    )
    loss = task.head.loss(SimpleNamespace(logits=scores), batch)
    assert loss.item() == pytest.approx((4.0 + 0.25) / 2)
    loss.backward()
    assert scores.grad is not None


def scored(task: Any, predicted: list[int], labels: list[int], split: str = "validation") -> Any:
    logits = torch.nn.functional.one_hot(torch.tensor(predicted), task.num_labels).float()
    return task.score(Features(split, [{}] * len(labels), labels), [(row,) for row in logits])


def test_accuracy_f1_mcc_by_hand() -> None:
    # tp 3, fp 1, fn 2, tn 5
    predicted = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    labels = [1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0]
    task = glue(metrics=["accuracy", "f1", "mcc"])
    found = scored(task, predicted, labels)
    assert found["accuracy"] == pytest.approx(100 * 8 / 11)
    assert found["f1"] == pytest.approx(100 * 6 / 9)
    assert found["mcc"] == pytest.approx(100 * (3 * 5 - 1 * 2) / math.sqrt(4 * 5 * 6 * 7), abs=1e-4)


def test_constant_prediction() -> None:
    found = scored(glue(metrics=["accuracy", "f1", "mcc"]), [0, 0, 0, 0], [0, 1, 1, 1])
    assert found == {"accuracy": 25.0, "f1": 0.0, "mcc": 0.0}


def test_matched_and_mismatched_splits() -> None:
    task = glue(
        num_labels=3,
        metrics=["accuracy", "accuracy_mm"],
        evaluation_splits=["validation", "validation_mismatched"],
    )
    assert scored(task, [0, 1, 2, 2], [0, 1, 2, 0]) == {"accuracy": 75.0}
    found = scored(task, [0, 1], [0, 2], "validation_mismatched")
    assert found == {"accuracy_mm": 50.0}


def correlations(scores: list[float], labels: list[float]) -> dict[str, float]:
    rows = [(torch.tensor([score]),) for score in scores]
    found: dict[str, float] = regression().score(Features("validation", [], labels), rows)
    return found


def test_correlations_by_hand() -> None:
    x, y = [1.0, 2.0, 3.0, 10.0], [0.0, 2.0, 1.0, 5.0]
    found = correlations(x, y)
    # means 4 and 2: sxy = 6+0+1+18 = 25, sxx = 9+4+1+36 = 50, syy = 4+0+1+9 = 14
    assert found["pearson"] == pytest.approx(100 * 25 / math.sqrt(50 * 14), abs=1e-4)
    # ranks 1 2 3 4 and 1 3 2 4: 1 - 6*2/(4*15) = 0.8
    assert found["spearman"] == pytest.approx(80.0, abs=1e-4)
    assert correlations([-v for v in x], x)["spearman"] == pytest.approx(-100.0, abs=1e-4)
    # equal labels share a rank, 1.5 1.5 3 4 against 1 2 3 4: sxy = 4.5, sxx = 5, syy = 4.5
    tied = correlations([1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 3.0, 4.0])
    assert tied["spearman"] == pytest.approx(100 * 4.5 / math.sqrt(5 * 4.5), abs=1e-4)


def test_undefined_is_nan() -> None:
    for scores, labels in [
        ([1.0, 1.0, 1.0], [0.0, 1.0, 2.0]),
        ([0.0, 1.0, 2.0], [3.0, 3.0, 3.0]),
        ([0.0, math.nan, 2.0], [1.0, 2.0, 3.0]),
    ]:
        found = correlations(scores, labels)
        assert all(math.isnan(value) for value in found.values()) and len(found) == 2
    rows = [(torch.tensor([math.nan, 0.0]),), (torch.tensor([1.0, 0.0]),)]
    found = glue().score(Features("validation", [], [0, 1]), rows)
    assert math.isnan(found["accuracy"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"sentence": ["a", "b"], "label": [0, -1]}, "row 1 is -1 .unlabelled"),
        ({"sentence": ["a", "b"], "label": [0, 2]}, "row 1 is 2, not 0 to 1"),
        ({"sentence": ["a", "b"], "label": [0, None]}, "row 1 is None"),
        ({"sentence": ["a", "b"], "label": [1.0, None]}, "row 1 is None"),
        ({"sentence": ["a", None], "label": [0, 1]}, "sentence of row 1 is not text"),
        ({"sentence": ["a", "b"]}, "no column label"),
        ({"label": [0, 1]}, "no column sentence"),
    ],
)
def test_bad_rows(tmp_path: Path, tokenizer: Any, columns: Any, message: str) -> None:
    write(tmp_path, "train", **columns)
    task = glue(source="folder", folder=str(tmp_path))
    with pytest.raises(StageError, match=message):
        task.features("train", tokenizer)


def test_classes_may_be_written_as_floats(tmp_path: Path, tokenizer: Any) -> None:
    write(tmp_path, "train", sentence=["a", "b"], label=[0.0, 1.0])
    task = glue(source="folder", folder=str(tmp_path))
    labels = [row["labels"] for row in task.features("train", tokenizer).rows]
    assert labels == [0, 1] and all(type(label) is int for label in labels)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"metrics": ["pearson"], "best_metric": "pearson"}, "pearson is not one of accuracy"),
        ({"best_metric": "f1"}, "best_metric=f1"),
        (
            {"num_labels": 3, "metrics": ["accuracy", "f1"]},
            r"f1 is that of one class of two, and num_labels is 3.*task\.metrics=\[accuracy\]",
        ),
        ({"num_labels": 3, "metrics": ["accuracy", "f1_mm"]}, "num_labels is 3"),
        ({"text_columns": []}, "text_columns"),
        ({"num_labels": 0}, "num_labels=0"),
        ({"max_length": 2}, "max_length=2"),
        ({"evaluation_splits": []}, "evaluation_splits"),
        ({"source": "folder"}, "no folder"),
        ({"generator": {"rows": 1}}, "rows is unknown"),
    ],
)
def test_bad_configuration(keys: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        glue(**keys)


@pytest.mark.shared
def test_real_stsb_and_mnli(shared_dir: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared_dir / "models" / "minilm-l6")
    stsb = regression(source="folder", folder=str(shared_dir / "data" / "stsb"), max_length=128)
    features = stsb.features("validation", tokenizer)
    assert len(features) == 1500 and all(0 <= x <= 5 for x in features.references)
    mnli = glue(
        name="mnli",
        num_labels=3,
        text_columns=["premise", "hypothesis"],
        metrics=["accuracy", "accuracy_mm"],
        evaluation_splits=["validation", "validation_mismatched"],
        source="folder",
        folder=str(shared_dir / "data" / "mnli"),
    )
    some = mnli.features("train", tokenizer, 64)
    assert len(some) == 64 and set(some.references) == {0, 1, 2}
    assert len(mnli.features("validation_mismatched", tokenizer)) == 916
