"""SQuAD windows: every answer comes back through the post-processing from perfect logits."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from task_cases import demo_tokenizer, squad, write

from obert_sweeps.schema import RequestError, StageError
from obert_sweeps.task.base import Features


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return demo_tokenizer()


def perfect(features: Features) -> list[tuple[torch.Tensor, ...]]:
    """Logits that point at the labels; at [CLS] in windows without the answer."""
    found = []
    for row in features.rows:
        start, end = (torch.zeros(len(row["input_ids"])) for _ in range(2))
        start[row["labels"][0]] = end[row["labels"][1]] = 9.0
        found.append((start, end))
    return found


@pytest.mark.parametrize(("max_length", "stride"), [(64, 16), (40, 8), (32, 4)])
def test_every_answer_is_recovered(tokenizer: Any, max_length: int, stride: int) -> None:
    task = squad(max_length=max_length, doc_stride=stride, max_query_length=16)
    features = task.features("validation", tokenizer)
    assert features.notes == {"examples": 30, "misplaced_answers": 0}
    assert max(len(row["input_ids"]) for row in features.rows) <= max_length
    if max_length == 32:
        assert len(features) > 30, "several windows an example"
    answered = {
        window.example
        for window, row in zip(features.references.windows, features.rows, strict=True)
        if row["labels"] != [0, 0]
    }
    assert answered == set(range(30))
    assert task.score(features, perfect(features)) == {"f1": 100.0, "em": 100.0}


def test_labels_point_at_the_answer(tokenizer: Any) -> None:
    task = squad()
    features = task.features("train", tokenizer)
    for row, window in zip(features.rows, features.references.windows, strict=True):
        first, last = row["labels"]
        text = tokenizer.decode(row["input_ids"][first : last + 1])
        assert text == features.references.answers[window.example][0].lower()
        assert row["token_type_ids"][first] == 1


def test_labels_are_the_whole_words_that_the_first_answer_touches(
    tmp_path: Path, tokenizer: Any
) -> None:
    answers = [{"text": ["ked the br", "Anna"], "answer_start": [7, 0]}]
    columns = {"id": ["1"], "question": ["Who?"], "context": ["Anna baked the bread."]}
    write(tmp_path, "train", **columns, answers=answers)
    (row,) = squad(source="folder", folder=str(tmp_path)).features("train", tokenizer).rows
    first, last = row["labels"]
    assert tokenizer.decode(row["input_ids"][first : last + 1]) == "baked the bread"


def test_wrong_logits_score_low(tokenizer: Any) -> None:
    task = squad()
    features = task.features("validation", tokenizer)
    flat = [tuple(torch.zeros_like(t) for t in row) for row in perfect(features)]
    assert task.score(features, flat)["em"] < 50
    broken = [tuple(t + math.nan for t in row) for row in perfect(features)]
    assert all(math.isnan(value) for value in task.score(features, broken).values())


def test_several_gold_answers_the_best_counts(tmp_path: Path, tokenizer: Any) -> None:
    answers = [{"text": ["Anna", "Anna baked"], "answer_start": [0, 0]}]
    columns = {"id": ["1"], "question": ["  Who baked?"], "context": ["Anna baked the bread."]}
    write(tmp_path, "validation", **columns, answers=answers)
    task = squad(source="folder", folder=str(tmp_path))
    features = task.features("validation", tokenizer)
    start, end = (torch.zeros(len(features.rows[0]["input_ids"])) for _ in range(2))
    tokens = tokenizer.convert_ids_to_tokens(features.rows[0]["input_ids"])
    start[tokens.index("anna")] = end[len(tokens) - 1 - tokens[::-1].index("baked")] = 9.0
    assert task.score(features, [(start, end)]) == {"f1": 100.0, "em": 100.0}


def test_a_span_is_chosen_of_so_many_and_no_longer_than_it_may_be(
    tmp_path: Path, tokenizer: Any
) -> None:
    columns = {"id": ["1"], "question": ["Who?"], "context": ["Anna baked the bread."]}
    write(
        tmp_path, "validation", **columns, answers=[{"text": ["Anna baked"], "answer_start": [0]}]
    )
    found = {}
    for n_best, longest in ((20, 30), (20, 2), (1, 2)):
        sizes = {"n_best": n_best, "max_answer_length": longest}
        task = squad(source="folder", folder=str(tmp_path), **sizes)
        features = task.features("validation", tokenizer)
        tokens = tokenizer.convert_ids_to_tokens(features.rows[0]["input_ids"])
        start, end = (torch.zeros(len(tokens)) for _ in range(2))
        start[tokens.index("anna")] = end[tokens.index("bread")] = 9.0
        end[tokens.index("baked")] = 8.0
        found[n_best, longest] = task.score(features, [(start, end)])["em"]
    # The best end is too far off; the second is not looked at where only one is.
    assert found == {(20, 30): 0.0, (20, 2): 100.0, (1, 2): 0.0}


def test_a_long_question_is_cut(tmp_path: Path, tokenizer: Any) -> None:
    columns = {
        "id": ["1"],
        "question": ["who " * 50],
        "context": ["Anna baked the bread."],
        "answers": [{"text": ["Anna"], "answer_start": [0]}],
    }
    write(tmp_path, "validation", **columns)
    task = squad(source="folder", folder=str(tmp_path))
    features = task.features("validation", tokenizer)
    ids = features.rows[0]["input_ids"]
    assert ids.count(tokenizer.convert_tokens_to_ids("who")) == 20
    assert task.score(features, perfect(features))["em"] == 100.0


def test_misplaced_answers_are_left_out_of_training_only(tmp_path: Path, tokenizer: Any) -> None:
    columns = {
        "id": ["1", "2"],
        "question": ["Who?", "Who?"],
        "context": ["Anna baked.", "Ben baked."],
        "answers": [
            {"text": ["Anna"], "answer_start": [0]},
            {"text": ["Ben"], "answer_start": [3]},
        ],
    }
    for split in ("train", "validation"):
        write(tmp_path, split, **columns)
    task = squad(source="folder", folder=str(tmp_path))
    train = task.features("train", tokenizer)
    assert len(train) == 1 and train.notes["misplaced_answers"] == 1
    assert task.remark(train.notes) == "answers not where they say, left out: 1"
    assert task.remark({"examples": 2, "misplaced_answers": 0}) is None
    assert task.features("validation", tokenizer).notes["examples"] == 2
    columns["answers"] = [{"text": ["x"], "answer_start": [0]}] * 2
    write(tmp_path, "train", **columns)
    with pytest.raises(StageError, match="no answer_start points"):
        task.features("train", tokenizer)
    write(
        tmp_path, "train", **{**columns, "answers": [{"text": ["Anna"], "answer_start": [0]}] * 2}
    )
    write(
        tmp_path, "validation", **{**columns, "answers": [{"text": [""], "answer_start": [0]}] * 2}
    )
    with pytest.raises(StageError, match="row 0 has no answer"):
        empty = [{"text": [], "answer_start": []}] * 2
        write(tmp_path, "validation", **{**columns, "answers": empty})
        task.features("validation", tokenizer)


def test_loss_is_the_mean_over_start_and_end() -> None:
    start = torch.tensor([[0.0, math.log(3.0)]])
    end = torch.tensor([[0.0, 0.0]])
    outputs = SimpleNamespace(start_logits=start, end_logits=end)
    task = squad()
    assert task.head.logits(outputs) == (start, end)
    batch = {"labels": torch.tensor([[1, 0]]), "attention_mask": torch.ones(1, 2)}
    loss = task.head.loss(outputs, batch)
    assert loss.item() == pytest.approx((-math.log(0.75) - math.log(0.5)) / 2)


def test_loss_does_not_see_padding() -> None:
    """The softmax is over real tokens: 1 of 4 and 1 of 2, whatever the model says of padding."""
    start = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 9.0, 50.0]], requires_grad=True)
    outputs = SimpleNamespace(start_logits=start, end_logits=start)
    batch = {
        "labels": torch.tensor([[2, 3], [0, 1]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
    }
    loss = squad().head.loss(outputs, batch)
    assert loss.item() == pytest.approx((math.log(4) + math.log(2)) / 2)
    loss.backward()
    assert start.grad is not None and start.grad[1, 2:].tolist() == [0.0, 0.0]
    assert bool(start.grad.isfinite().all()) and bool((start.grad[0] != 0).any())


def test_collate() -> None:
    rows = [
        {"input_ids": [2, 5, 3], "token_type_ids": [0, 0, 1], "labels": [1, 2]},
        {"input_ids": [2, 3], "token_type_ids": [0, 1], "labels": [0, 0]},
    ]
    batch = squad().collate(rows, 0, torch.Generator())
    assert batch["labels"].tolist() == [[1, 2], [0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"metrics": ["accuracy"], "best_metric": "accuracy"}, "none of f1, em"),
        ({"best_metric": "accuracy"}, "best_metric"),
        ({"max_length": 39}, "leaves no room"),
        ({"n_best": 0}, "at least 1"),
    ],
)
def test_bad_configuration(keys: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        squad(**keys)


@pytest.mark.shared
def test_real_answers_are_recovered(shared_dir: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared_dir / "models" / "minilm-l6")
    task = squad(
        source="folder",
        folder=str(shared_dir / "data" / "squad_by_article"),
        max_length=384,
        doc_stride=128,
        max_query_length=64,
    )
    features = task.features("validation", tokenizer, 200)
    found = task.score(features, perfect(features))
    # Answers inside a word ("190" of "1900s") cannot be cut out of whole tokens.
    assert found["em"] > 98 and found["f1"] > 99
    train = task.features("train", tokenizer, 200)
    assert train.notes["examples"] + train.notes["misplaced_answers"] == 200
