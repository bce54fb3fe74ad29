"""Training rows are tokenised once, come out as they went in, and are never those of other data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_bert import Toy, data_of
from tiny_stage import run, stage, weights
from transformers import AutoTokenizer

from obert_sweeps.identity import TASK_VERSIONS
from obert_sweeps.stage.tokenised import key
from obert_sweeps.task.array_rows import load_rows, save_rows
from obert_sweeps.task.base import Features
from obert_sweeps.task.padding import model_inputs, padded
from obert_sweeps.task.word_tokenizer import word_tokenizer

DATA = {"train.parquet": "0123"}


def through_file(folder: Path, features: Features) -> Features:
    save_rows(folder / "rows", features)
    return load_rows(folder / "rows", features.split)


@pytest.mark.parametrize("head", ["classification", "regression", "span"])
def test_rows_come_back_from_the_file_as_they_were(head: str, tmp_path: Path) -> None:
    task = Toy(head=head, rows=17)
    features = data_of(task).train
    features.notes["full"] = 3
    found = through_file(tmp_path, features)
    assert len(found) == 17 and found.notes == {"full": 3} and found.split == "train"

    def plain(row: dict[str, Any]) -> dict[str, Any]:
        return {name: np.asarray(value).tolist() for name, value in row.items()}

    assert [plain(row) for row in found.rows] == features.rows
    assert type(found.rows[0]["labels"]) is type(features.rows[0]["labels"])
    assert plain(found.rows[-1]) == features.rows[-1]
    assert [plain(row) for row in found.rows[3:9:2]] == features.rows[3:9:2]
    with pytest.raises(IndexError):
        found.rows[17]
    places = [5, 0, 16]
    generator = torch.Generator()
    ours, theirs = (
        task.collate([rows[i] for i in places], 0, generator)
        for rows in (found.rows, features.rows)
    )
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor) and ours[name].dtype == tensor.dtype


@given(st.lists(st.lists(st.integers(0, 2**30), min_size=1, max_size=9), min_size=1, max_size=6))
def test_padding_puts_each_row_first_and_the_mask_over_it(rows: list[list[int]]) -> None:
    batch = model_inputs(
        [{"input_ids": row, "token_type_ids": [1] * len(row)} for row in rows], pad_token_id=7
    )
    for name, tensor in batch.items():
        assert tensor.dtype == torch.int64 and tensor.shape == (len(rows), max(map(len, rows))), (
            name
        )
    for place, row in enumerate(rows):
        rest = batch["input_ids"].shape[1] - len(row)
        assert batch["input_ids"][place].tolist() == row + [7] * rest
        assert batch["attention_mask"][place].tolist() == [1] * len(row) + [0] * rest
        assert batch["token_type_ids"][place].tolist() == [1] * len(row) + [0] * rest
    assert torch.equal(padded(rows, 7), batch["input_ids"])


def of_data(spec: dict[str, Any], data: Any = DATA) -> dict[str, Any]:
    return {**spec, "identity": {"data": data}}


@pytest.fixture
def tokenised(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The splits that were tokenised, in order."""
    seen: list[str] = []
    features = Toy.features

    def count(self: Any, split: str, *rest: Any) -> Any:
        seen.append(split)
        return features(self, split, *rest)

    monkeypatch.setattr(Toy, "features", count)
    return seen


def test_stages_of_the_same_rows_tokenise_them_once(tmp_path: Path, tokenised: list[str]) -> None:
    run(tmp_path, stage("plain"))
    run(tmp_path, of_data(stage("first")))
    run(tmp_path, of_data(stage("second")))
    assert tokenised.count("train") == 2  # one without the cache, one to fill it
    for name, tensor in weights(tmp_path, "plain").items():
        assert torch.equal(weights(tmp_path, "second")[name], tensor)
    file = next((tmp_path / "cache").rglob("rows.safetensors"))
    file.write_bytes(file.read_bytes()[:-3])
    run(tmp_path, of_data(stage("third")))
    assert tokenised.count("train") == 3
    assert torch.equal(
        weights(tmp_path, "third")["bert.pooler.dense.bias"],
        weights(tmp_path, "plain")["bert.pooler.dense.bias"],
    )


def test_a_stage_says_once_what_its_rows_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = Toy.features

    def lacking(self: Any, split: str, *rest: Any) -> Any:
        found = features(self, split, *rest)
        found.notes["absent"] = 5 if split == "train" else 7
        return found

    monkeypatch.setattr(Toy, "features", lacking)
    monkeypatch.setattr(Toy, "remark", lambda self, notes: f"absent: {notes['absent']}")
    for name in ("plain", "first", "from_the_cache"):
        run(tmp_path, stage(name) if name == "plain" else of_data(stage(name)))
        log = (tmp_path / f"stages/{name}/log.txt").read_text()
        assert log.count("absent") == 1 and "toy, train: absent: 5\n" in log


def test_other_rows_are_tokenised_anew(tmp_path: Path, tokenised: list[str]) -> None:
    run(tmp_path, of_data(stage("first")))
    run(tmp_path, of_data(stage("other"), {"train.parquet": "4567"}))
    run(tmp_path, of_data(stage("longer", task={"max_length": 16})))
    assert tokenised.count("train") == 3


@pytest.mark.parametrize(
    "changes",
    [{"max_train_rows": 16}, {"task": {"head": "mlm"}}],
)
def test_few_rows_and_those_that_are_drawn_anew_are_not_kept(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    run(tmp_path, of_data(stage("first", **changes)))
    assert not (tmp_path / "cache").exists()


def test_the_key_is_the_same_after_the_tokenizer_was_used_and_saved(tmp_path: Path) -> None:
    tokenizer = word_tokenizer(["a b c"])
    task = {"_target_": "x", "name": "sst2", "max_length": 128}
    first = key(task, DATA, tokenizer, None)
    tokenizer(["a b c"], truncation=True, max_length=4, padding="max_length")
    assert key(task, DATA, tokenizer, None) == first
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert json.loads(again.backend_tokenizer.to_str())["truncation"]["max_length"] == 4
    assert key(task, DATA, again, None) == first


def test_the_key_is_of_what_the_rows_follow_from_and_not_of_where_they_lie(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def tokenizer(words: str = "a b c") -> Any:
        return word_tokenizer([words])

    task = {"_target_": "x", "name": "sst2", "max_length": 128, "source": "folder", "folder": "/a"}
    first = key(task, DATA, tokenizer(), None)
    assert key({**task, "folder": "/b", "source": "hub"}, DATA, tokenizer(), None) == first
    others = [
        key({**task, "max_length": 64}, DATA, tokenizer(), None),
        key(task, {"train.parquet": "9"}, tokenizer(), None),
        key(task, DATA, tokenizer("a b d"), None),
        key(task, DATA, tokenizer(), 20_000),
    ]
    monkeypatch.setitem(TASK_VERSIONS, "x", 2)  # the task was mended since
    others.append(key(task, DATA, tokenizer(), None))
    assert len({first, *others}) == 6
