"""The word-level tokenizer: round trip, saving, offsets, segments."""

from __future__ import annotations

from pathlib import Path

from task_cases import demo_tokenizer
from transformers import AutoTokenizer

from obert_sweeps.task import demo
from obert_sweeps.task.demo_tasks import MAKERS
from obert_sweeps.task.word_tokenizer import SPECIAL, word_tokenizer

TEXTS = ["The red car.", "a boat, the CAR?"]


def test_vocabulary_is_sorted_and_deterministic() -> None:
    one, two = word_tokenizer(TEXTS), word_tokenizer(TEXTS[::-1])
    assert one.get_vocab() == two.get_vocab()
    words = sorted(one.get_vocab(), key=one.get_vocab().__getitem__)
    assert words[:5] == list(SPECIAL)
    assert words[5:] == sorted([",", ".", "?", "a", "boat", "car", "red", "the"])
    ids = [one.pad_token_id, one.unk_token_id, one.cls_token_id, one.sep_token_id]
    assert [*ids, one.mask_token_id] == [0, 1, 2, 3, 4]


def test_most_frequent_words_are_kept() -> None:
    tokenizer = word_tokenizer(TEXTS, vocab_size=7)
    assert set(tokenizer.get_vocab()) == {*SPECIAL, "the", "car"}
    ids = tokenizer("the boat", add_special_tokens=False)["input_ids"]
    assert ids == [tokenizer.convert_tokens_to_ids("the"), tokenizer.unk_token_id]


def test_offsets_segments_and_saving(tmp_path: Path) -> None:
    tokenizer = word_tokenizer(TEXTS)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for each in (tokenizer, loaded):
        found = each("The Car?", "a boat", return_offsets_mapping=True, return_token_type_ids=True)
        assert each.convert_ids_to_tokens(found["input_ids"]) == [
            *("[CLS]", "the", "car", "?", "[SEP]", "a", "boat", "[SEP]")
        ]
        assert found["token_type_ids"] == [0, 0, 0, 0, 0, 1, 1, 1]
        assert found["offset_mapping"][1:4] == [(0, 3), (4, 7), (7, 8)]
        assert each.decode(found["input_ids"][1:4]) == "the car?"
    assert loaded.get_vocab() == tokenizer.get_vocab()


def test_the_demo_has_no_unknown_word() -> None:
    tokenizer = demo_tokenizer()
    for task in ("sst2", "cola", "mrpc", "stsb", "qqp", "mnli", "qnli", "squad"):
        rows = demo.rows(task, "train", train_rows=500, validation_rows=50)
        texts = [row[column] for row in rows for column in MAKERS[task].columns]
        ids = [i for row in tokenizer(texts)["input_ids"] for i in row]
        assert tokenizer.unk_token_id not in ids
