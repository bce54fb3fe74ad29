"""What tells one input from another: rows, texts and weights, wherever they lie."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from obert_sweeps.plan.dag import make_plan
from obert_sweeps.plan.inputs import Inputs
from obert_sweeps.request.read import read

DENSE = "t5/sst2/bert_base/dense"


def test_a_copy_of_the_data_is_the_same_input_and_a_changed_row_is_not(tmp_path) -> None:
    def stage(folder: str, **sentences: str) -> str:
        (tmp_path / folder / "sst2").mkdir(parents=True)
        for split in ("train", "validation"):
            rows = {"sentence": [sentences.get(split, "a fine film")] * 40, "label": [0, 1] * 20}
            pq.write_table(pa.table(rows), tmp_path / folder / "sst2" / f"{split}.parquet")
        words = [f"data_root={tmp_path / folder}", "preset=paper", "seeds=1", f"cells={DENSE}"]
        return make_plan(read(words)).cells[DENSE].finals[42]

    one = stage("here")
    assert stage("there") == one
    assert stage("other", train="a dull film") != one
    assert stage("scored", validation="a dull film") != one


def test_each_text_of_a_corpus_counts(tmp_path) -> None:
    def fingerprint(column: str = "sentence") -> object:
        parts = [
            {"data": d, "folder": str(tmp_path / d), "text_columns": [column]}
            for d in ("sst2", "cola")
        ]
        task = {"name": "mlm", "source": "folder", "folder": str(tmp_path), "corpus": parts}
        return Inputs().data_of(task).fingerprint

    def write(data: str, text: str) -> None:
        (tmp_path / data).mkdir(exist_ok=True)
        table = pa.table({"sentence": [text], "label": [0]})
        pq.write_table(table, tmp_path / data / "train.parquet")

    write("sst2", "one")
    write("cola", "two")
    before = fingerprint()
    assert fingerprint("label") != before
    write("sst2", "three")
    assert fingerprint() != before


def test_a_copy_of_a_checkpoint_is_the_same_start_and_other_weights_are_not(tmp_path) -> None:
    def start(folder: str, weight: float) -> object:
        path = tmp_path / folder
        path.mkdir()
        sizes = ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size")
        config = {"model_type": "bert", **dict.fromkeys(sizes, 1)}
        (path / "config.json").write_text(json.dumps(config))
        (path / "vocab.txt").write_text("[PAD]")
        save_file({"w": np.full(3, weight)}, path / "model.safetensors")
        return Inputs().weights_of({"name": "bert_base", "path": str(path)})["fingerprint"]

    one = start("here", 1.0)
    assert start("there", 1.0) == one
    assert start("other", 2.0) != one  # of the same size


def test_weights_that_are_drawn_are_told_apart_by_their_shape() -> None:
    model = {"name": "bert_base", "from_config": True}
    wide, narrow = (
        Inputs().weights_of({**model, "config": {"hidden_size": size}})["fingerprint"]
        for size in (64, 32)
    )
    assert wide != narrow


def test_generated_rows_are_told_apart_by_all_that_they_are_generated_by() -> None:
    task = {"name": "sst2", "source": "generated"}
    one, other = (
        Inputs().data_of({**task, "generator": {"train_rows": 9, "seed": seed}}) for seed in (1, 2)
    )
    assert one.rows == other.rows == {"train": 9} and one.fingerprint != other.fingerprint
