"""The demo's grammar: deterministic, balanced, without leaks, with the hub's columns."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter

import pytest

from obert_sweeps.schema import RequestError, StageError
from obert_sweeps.task import demo
from obert_sweeps.task import demo_grammar as grammar
from obert_sweeps.task.demo_tasks import MAKERS

COLUMNS = {
    "sst2": {"sentence", "label", "idx"},
    "cola": {"sentence", "label", "idx"},
    "mrpc": {"sentence1", "sentence2", "label", "idx"},
    "stsb": {"sentence1", "sentence2", "label", "idx"},
    "qqp": {"question1", "question2", "label", "idx"},
    "mnli": {"premise", "hypothesis", "label", "idx"},
    "qnli": {"question", "sentence", "label", "idx"},
    "squad": {"id", "title", "context", "question", "answers"},
    "corpus": {"text", "text_pair", "idx"},
}


def rows(task: str, split: str, train: int = 400, validation: int = 120, seed: int = 0) -> list:
    return demo.rows(task, split, train_rows=train, validation_rows=validation, seed=seed)


def key(task: str, row: dict) -> tuple[str, ...]:
    return tuple(row[column].lower() for column in MAKERS[task].columns)


@pytest.mark.parametrize("task", COLUMNS)
def test_columns_counts_and_no_leak(task: str) -> None:
    train, validation = rows(task, "train"), rows(task, "validation")
    assert (len(train), len(validation)) == (400, 120)
    assert all(set(row) == COLUMNS[task] for row in train + validation)
    keys = [key(task, row) for row in train + validation]
    assert len(set(keys)) == len(keys), "a text twice, or in both splits"


@pytest.mark.parametrize("task", COLUMNS)
def test_deterministic_and_seeded(task: str) -> None:
    assert rows(task, "train") == rows(task, "train")
    assert rows(task, "train") != rows(task, "train", seed=1)
    # More training rows leave the validation split as it is.
    assert rows(task, "validation", train=10) == rows(task, "validation", train=900)


def test_rows_of_this_version_are_fixed() -> None:
    """If this fails, the grammar has changed: raise demo.VERSION, then renew the digest."""
    everything = {task: rows(task, "train") for task in COLUMNS}
    text = json.dumps(everything, sort_keys=True)
    assert (demo.VERSION, hashlib.sha256(text.encode()).hexdigest()[:16]) == (1, "cb2153884c18831c")


@pytest.mark.parametrize("task", [name for name, maker in MAKERS.items() if maker.labelled])
def test_labels_are_balanced(task: str) -> None:
    found = Counter(int(row["label"]) for row in rows(task, "train"))
    weights = MAKERS[task].weights
    for label, weight in enumerate(weights):
        assert abs(found[label] - 400 * weight / sum(weights)) <= max(weights)


def test_every_answer_stands_in_its_context() -> None:
    for row in rows("squad", "train"):
        text, start = row["answers"]["text"][0], row["answers"]["answer_start"][0]
        assert text and row["context"][start : start + len(text)] == text
    assert any(len(row["answers"]["text"][0].split()) > 2 for row in rows("squad", "train"))


def test_mismatched_verbs_are_new() -> None:
    def verbs(found: list) -> set[str]:
        words = {w for r in found for w in (r["premise"] + r["hypothesis"]).lower().split()}
        return words & {verb for topic in grammar.TOPICS for verb in topic.verbs}

    train = verbs(rows("mnli", "train"))
    other = verbs(rows("mnli", "validation_mismatched"))
    assert train and other and not train & other


@pytest.mark.parametrize("task", [name for name, maker in MAKERS.items() if maker.labelled])
def test_no_single_word_gives_the_label_away(task: str) -> None:
    """The best rule 'has this word: this label' stays well below what a model can reach."""
    found = rows(task, "train", train=1500)
    high = max(row["label"] for row in found)
    labels = [row["label"] == high for row in found]
    texts = [set(" ".join(key(task, row)).replace(".", " ").split()) for row in found]
    best = 0.0
    for word in set().union(*texts):
        right = sum((word in text) == label for text, label in zip(texts, labels, strict=True))
        best = max(best, right, len(found) - right)
    majority = max(sum(labels), len(labels) - sum(labels))
    assert best <= majority + 0.17 * len(found)


def test_an_unaccepted_sentence_is_never_accepted_too() -> None:
    found = rows("cola", "train", train=1500)
    good = {row["sentence"] for row in found if row["label"] == 1}
    bad = {row["sentence"] for row in found if row["label"] == 0}
    assert not good & bad


def test_vocabulary_is_small_and_speed_is_enough() -> None:
    start = time.process_time()
    for task in COLUMNS:
        rows(task, "train", train=3000, validation=300)
    assert time.process_time() - start < 4
    words = set()
    for row in rows("corpus", "train", train=4000):
        words |= set(" ".join(key("corpus", row)).replace(".", " ").split())
    assert 120 < len(words) < 300


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StageError, match="no sst2, split test"):
        rows("sst2", "test")
    with pytest.raises(StageError, match="no wnli"):
        rows("wnli", "train")
    monkeypatch.setattr(demo, "_ATTEMPTS", 1)  # so that any repetition exhausts it
    with pytest.raises(StageError, match="yields only"):
        rows("sst2", "train", train=5000)
    good = {"train_rows": 5, "validation_rows": 5, "seed": 0, "version": demo.VERSION}
    demo.check_options("sst2", good)
    for bad, message in [
        ({**good, "train_rows": 0}, "train_rows=0"),
        ({**good, "rows": 3}, "rows is unknown"),
        ({**good, "version": 99}, "version=99"),
        ({"train_rows": 5}, "validation_rows is missing"),
    ]:
        with pytest.raises(RequestError, match=message):
            demo.check_options("sst2", bad)
    with pytest.raises(RequestError, match="no grammar for wnli"):
        demo.check_options("wnli", good)
