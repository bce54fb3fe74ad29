"""Masked-language modelling: masking rates, packing, the unigram bar, the corpus."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from task_cases import GENERATOR, demo_tokenizer, mlm, write

from obert_sweeps.schema import RequestError, StageError
from obert_sweeps.task import mlm as module
from obert_sweeps.task.masking import IGNORED, Vocabulary, mask_tokens
from obert_sweeps.task.mlm import one_a_line, pack, unigram_loss

VOCABULARY = Vocabulary(100, 4, torch.arange(5), torch.arange(5, 100))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return demo_tokenizer()


@given(st.integers(0, 1000), st.floats(0.05, 0.9), st.integers(1, 6), st.integers(2, 40))
def test_masking_touches_only_what_it_labels(
    seed: int, probability: float, rows: int, length: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 100, (rows, length), generator=generator)
    masked, labels = mask_tokens(ids, probability, VOCABULARY, generator)
    picked = labels != IGNORED
    assert (labels[picked] == ids[picked]).all()
    assert (masked[~picked] == ids[~picked]).all()
    assert not picked[ids < 5].any(), "a special token is never predicted"
    assert ((masked[picked] == 4) | (masked[picked] >= 5)).all()
    assert (picked.any(-1) == (ids >= 5).any(-1)).all(), "each row has something to predict"


def test_masking_rates() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 100, (400, 250), generator=generator)
    masked, labels = mask_tokens(ids, 0.15, VOCABULARY, generator)
    picked = labels != IGNORED
    count = int(picked.sum())
    assert abs(count / ids.numel() - 0.15) < 0.005
    as_mask = float((masked[picked] == 4).sum()) / count
    kept = float((masked[picked] == ids[picked]).sum()) / count
    assert abs(as_mask - 0.8) < 0.01
    assert abs(kept - (0.1 + 0.1 / 95)) < 0.01
    others = masked[picked & (masked != 4) & (masked != ids)]
    assert sorted(set(others.tolist())) == list(range(5, 100)), "any word may stand in"
    again = mask_tokens(ids, 0.15, VOCABULARY, torch.Generator().manual_seed(1))[1]
    assert not torch.equal(again, labels)


def test_special_tokens_are_no_words(tokenizer: Any) -> None:
    known = Vocabulary.of(tokenizer)
    assert known.special.tolist() == list(range(5)) and known.mask == 4
    assert known.words.tolist() == list(range(5, len(tokenizer))) and known.size == len(tokenizer)


def test_training_is_masked_anew_and_held_out_text_once(tokenizer: Any) -> None:
    task = mlm()
    train = task.features("train", tokenizer)
    assert all("labels" not in row for row in train.rows)
    rows = train.rows[:8]
    one = task.collate(rows, 0, torch.Generator().manual_seed(1))
    two = task.collate(rows, 0, torch.Generator().manual_seed(2))
    same = task.collate(rows, 0, torch.Generator().manual_seed(1))
    assert not torch.equal(one["labels"], two["labels"])
    assert torch.equal(one["input_ids"], same["input_ids"])
    picked = one["labels"] != IGNORED
    assert not picked[one["attention_mask"] == 0].any()
    held_out = task.features("validation", tokenizer)
    assert held_out.rows == mlm().features("validation", tokenizer).rows
    batches = [
        task.collate(held_out.rows[:8], 0, torch.Generator().manual_seed(seed)) for seed in (1, 2)
    ]
    assert torch.equal(batches[0]["labels"], batches[1]["labels"])
    assert torch.equal(batches[0]["input_ids"], batches[1]["input_ids"])


def test_collate_before_features_is_refused() -> None:
    row = {"input_ids": [2, 7, 3], "token_type_ids": [0, 0, 0]}
    with pytest.raises(StageError, match="call features"):
        mlm().collate([row], 0, torch.Generator())


def test_pairs_go_into_two_segments(tokenizer: Any) -> None:
    rows = mlm().features("train", tokenizer).rows
    segments = {max(row["token_type_ids"]) for row in rows}
    assert segments == {0, 1}
    assert all(len(row["input_ids"]) <= 64 for row in rows)


def test_packing_loses_no_token(tokenizer: Any) -> None:
    texts = ["Anna baked the bread.", "The film was great .", "Ben fixed the car on Monday."] * 9
    rows = list(pack(texts, tokenizer, 16))
    assert all(len(row["input_ids"]) == 16 for row in rows[:-1])
    assert len(rows[-1]["input_ids"]) <= 16
    inner = [token for row in rows for token in row["input_ids"][1:-1]]
    expected: list[int] = []
    for text in texts:
        expected += [*tokenizer(text, add_special_tokens=False)["input_ids"], 3]
    assert inner == expected[:-1]
    assert {row["input_ids"][0] for row in rows} == {2}
    assert {row["input_ids"][-1] for row in rows} == {3}
    assert len(mlm(pack=True).features("train", tokenizer)) < 400


@pytest.fixture
def few_together() -> Iterator[None]:
    """Texts are tokenised three together, so that few make several parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TEXTS", 3)
        yield


TEXTS = st.lists(st.text("ab .é", max_size=20), max_size=14)


@pytest.mark.usefixtures("few_together")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, st.integers(3, 12))
def test_packed_rows_are_cuts_of_one_stream(
    tokenizer: Any, texts: list[str], max_length: int
) -> None:
    stream: list[int] = []
    for place, text in enumerate(texts):
        words = tokenizer(text, add_special_tokens=False)["input_ids"]
        stream += [*([3] if place else []), *words]
    rows = []
    while stream:
        cut, stream = stream[: max_length - 2], stream[max_length - 2 :]
        rows.append({"input_ids": [2, *cut, 3], "token_type_ids": [0] * (len(cut) + 2)})
    assert list(pack(texts, tokenizer, max_length)) == rows


@pytest.mark.usefixtures("few_together")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, st.data())
def test_lines_keep_their_order_whatever_is_tokenised_together(
    tokenizer: Any, texts: list[str], data: Any
) -> None:
    lines = [(text, *data.draw(st.just(()) | st.tuples(st.just("b a")))) for text in texts]
    alone = [tokenizer(*line, truncation=True, max_length=8) for line in lines]
    rows = [{k: one[k] for k in ("input_ids", "token_type_ids")} for one in alone]
    assert list(one_a_line(lines, tokenizer, 8)) == rows


@pytest.mark.parametrize("packed", [True, False])
def test_a_token_of_training_takes_few_bytes(tokenizer: Any, packed: bool) -> None:
    task = mlm(pack=packed, generator={**GENERATOR, "train_rows": 4000})
    lines = task.corpus.lines("train")
    task.corpus.lines = lambda split, max_rows=None: lines  # type: ignore[method-assign]
    tracemalloc.start()
    try:
        rows = task.features("train", tokenizer).rows
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    tokens = sum(len(row["input_ids"]) for row in rows)
    assert tokens > 30_000
    assert held < 16 * tokens and peak < 48 * tokens


def test_unigram_loss_by_hand() -> None:
    counts = torch.tensor([0, 3, 1, 0])  # with one added: 1 4 2 1 of 8
    labels = [torch.tensor([IGNORED, 1]), torch.tensor([2, 3, IGNORED])]
    expected = -(math.log(4 / 8) + math.log(2 / 8) + math.log(1 / 8)) / 3
    assert unigram_loss(labels, counts) == pytest.approx(expected)
    assert math.isnan(unigram_loss([torch.tensor([IGNORED])], counts))


def test_unigram_loss_of_a_task_is_that_of_its_training_text(tokenizer: Any) -> None:
    task = mlm()
    features = task.features("validation", tokenizer)
    labels, found = features.references
    counts = torch.zeros(len(tokenizer), dtype=torch.long)
    for row in task.features("train", tokenizer).rows:
        for token in row["input_ids"].tolist():
            counts[token] += token >= 5
    assert found == pytest.approx(unigram_loss(labels, counts))
    assert 2 < found < math.log(len(tokenizer))


def test_scores_are_those_of_the_logits(tokenizer: Any) -> None:
    task = mlm()
    features = task.features("validation", tokenizer)
    generator = torch.Generator().manual_seed(3)
    batch = task.collate(features.rows, 0, generator)
    logits = torch.randn(*batch["input_ids"].shape, len(tokenizer), generator=generator)
    outputs = SimpleNamespace(logits=logits)
    lengths = [len(row["input_ids"]) for row in features.rows]
    nats, right = task.predictions(outputs, batch)
    assert nats.shape == right.shape == batch["labels"].shape
    short = [(nats[i, :n], right[i, :n]) for i, n in enumerate(lengths)]
    found = task.score(features, short)
    assert found["loss"] == pytest.approx(task.head.loss(outputs, batch).item(), rel=1e-5)
    picked = batch["labels"] != IGNORED
    hits = logits.argmax(-1)[picked] == batch["labels"][picked]
    assert found["accuracy"] == pytest.approx(100 * hits.double().mean().item())
    assert set(found) == set(task.metrics)


def test_check_refuses_a_model_that_learnt_nothing() -> None:
    task = mlm()
    assert task.check({"loss": 2.0, "unigram_loss": 3.0, "accuracy": 50.0}) is None
    for loss in (3.0, 3.5):
        reason = task.check({"loss": loss, "unigram_loss": 3.0, "accuracy": 5.0})
        assert reason is not None and "unigram" in reason
    reason = task.check({"loss": None, "unigram_loss": 3.0, "accuracy": 5.0})
    assert reason is not None and "not finite" in reason


def corpus_folders(tmp_path: Path) -> list[dict[str, Any]]:
    write(tmp_path / "sst2", "train", sentence=[f"film {i}" for i in range(60)], label=[-1] * 60)
    firsts = [f"one {i}" for i in range(50)]
    write(tmp_path / "mrpc", "train", a=firsts, b=["two", None] * 25)
    return [
        {"data": "sst2", "folder": str(tmp_path / "sst2"), "text_columns": ["sentence"]},
        {"data": "mrpc", "folder": str(tmp_path / "mrpc"), "text_columns": ["a", "b"]},
    ]


def test_local_texts_are_split_without_a_leak(tmp_path: Path) -> None:
    task = mlm(source="folder", corpus=corpus_folders(tmp_path))
    train, held_out = task.corpus.lines("train"), task.corpus.lines("validation")
    assert len(held_out) == 10 and len(train) == 100
    assert not set(train) & set(held_out)
    assert {len(line) for line in train} == {1, 2}
    assert len(task.corpus.lines("train", 7)) == 7
    with pytest.raises(StageError, match="no split test"):
        task.corpus.lines("test")
    tokenizer = task.make_tokenizer(vocab_size=20)
    assert len(tokenizer) == 20
    assert len(task.features("validation", tokenizer)) == 10


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"mask_probability": 0.0}, "mask_probability"),
        ({"mask_probability": 1.0}, "mask_probability"),
        ({"best_metric": "loss"}, "must be accuracy"),
        ({"source": "folder"}, "names no texts"),
        ({"source": "hub"}, "names no texts"),
        ({"source": "cloud"}, "not one of hub, folder, generated"),
        ({"generator": {**GENERATOR, "version": 0}}, "version=0"),
    ],
)
def test_bad_configuration(keys: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        mlm(**keys)


def test_hub_corpus_reads_both_data_sets() -> None:
    more = {"hub": "b/b", "hub_config": "en", "revision": None, "text_columns": ["text"]}
    task = mlm(source="hub", hub="a/a", more_hub=[more])
    hubs = [source for source, _ in task.corpus.parts]
    assert [getattr(hub, "hub", None) for hub in hubs] == ["a/a", "b/b"]


@pytest.mark.shared
def test_real_texts(shared_dir: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared_dir / "models" / "minilm-l6")
    folder = str(shared_dir / "data" / "stsb")
    part = {"data": "stsb", "folder": folder, "text_columns": ["sentence1", "sentence2"]}
    task = mlm(source="folder", corpus=[part], held_out_rows=50)
    features = task.features("validation", tokenizer)
    assert len(features) == 50
    assert 4 < features.references[1] < 9  # nats a token of a unigram model of English
