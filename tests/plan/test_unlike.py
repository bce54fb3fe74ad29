"""Rows and checkpoints of a folder that are visibly not the document's make its cells stand-ins."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from obert_sweeps.plan.dag import CellPlan, make_plan
from obert_sweeps.plan.unlike import other_model, other_rows
from obert_sweeps.request.read import read

BERT = {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072}
PUBLISHED = {"train": 3668, "validation": 408}  # MRPC


@pytest.fixture
def rows(tmp_path):
    """A data_root with so many rows of MRPC."""

    def write(**splits: int) -> str:
        (tmp_path / "mrpc").mkdir(exist_ok=True)
        for split, count in splits.items():
            columns = {"sentence1": ["a"], "sentence2": ["b"], "label": [1]}
            table = pa.table({name: column * count for name, column in columns.items()})
            pq.write_table(table, tmp_path / "mrpc" / f"{split}.parquet")
        return f"data_root={tmp_path}"

    return write


def dense(*said: str) -> CellPlan:
    (cell,) = make_plan(
        read(["preset=paper", "seeds=1", "cells=t5/mrpc/bert_base/dense", *said])
    ).selected()
    return cell


def test_a_copy_of_the_published_rows_is_as_published(rows) -> None:
    cell = dense(rows(**PUBLISHED))
    assert not cell.stand_in and cell.unlike == []
    assert not dense().stand_in  # the hub's


def test_other_rows_make_a_stand_in(rows) -> None:
    cell = dense(rows(**PUBLISHED | {"train": 100}))
    assert cell.stand_in and cell.unlike == ["mrpc has 100 train rows, not 3,668"]


def test_a_smaller_checkpoint_makes_a_stand_in(shared_dir) -> None:
    path = shared_dir / "models" / "minilm-l6"
    cell = dense("model=bert_base", f"model.path={path}")
    assert cell.stand_in
    (said,) = cell.unlike
    assert said.startswith("bert_base starts from a model with num_hidden_layers=6, not 12; ")


def test_what_is_counted() -> None:
    task = {"name": "mlm", "source": "folder", "corpus": [], "official_rows": {"train": 8_000_000}}
    assert other_rows(task, {"train": 8_000_001}) == []  # lines, which are shorter than rows
    assert "2,000 lines of text" in other_rows(task, {"train": 2000})[0]
    assert other_rows(task | {"source": "hub"}, {"train": 1}) == []
    mine = {"name": "reviews", "source": "folder"}  # a task of one's own has no published rows
    assert other_rows(mine, {"train": 1}) == []
    model = {"name": "bert_base", "path": "/a", "config": BERT}
    assert other_model(model, BERT | {"vocab_size": 3}) == []
    assert other_model(model | {"path": None}, {}) == []
