"""Where a task's rows come from: what is said is done, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from obert_sweeps.plan.dag import make_plan
from obert_sweeps.plan.inputs import Blocked, Inputs
from obert_sweeps.plan.rows_from import rows_from
from obert_sweeps.request.read import read
from obert_sweeps.schema import RequestError

TASK = {"name": "reviews", "data": "reviews", "source": "hub", "hub": "a/b", "folder": None}
MLM = {
    "name": "mlm",
    "source": "hub",
    "folder": None,
    "corpus": [{"data": d, "folder": None, "text_columns": ["text"]} for d in ("sst2", "cola")],
}


def test_a_folder_that_is_named_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = rows_from({**TASK, "folder": "own"}, {"folder"}, None)
    assert (found["source"], found["folder"]) == ("folder", str(tmp_path / "own"))
    assert rows_from(dict(TASK), {"max_length"}, None) == TASK


@pytest.mark.parametrize(
    ("keys", "said", "root", "says"),
    [
        ({"folder": "own"}, {"folder", "source"}, None, "Leave it out, or use task.source=folder"),
        ({"source": "generated"}, {"hub"}, None, "task.hub has no effect on reviews.*source=hub"),
        ({}, {"generator.train_rows"}, None, "task.generator has no effect"),
        ({"folder": "own"}, {"folder"}, "/data", "task.folder and data_root=/data both"),
        ({}, {"source"}, "/data", "task.source and data_root=/data both"),
    ],
)
def test_what_its_source_passes_over_is_refused(
    keys: dict[str, Any], said: set[str], root: str | None, says: str
) -> None:
    with pytest.raises(RequestError, match=says):
        rows_from({**TASK, **keys}, said, root)


def test_a_plan_reads_the_folder_it_is_given(tmp_path: Path) -> None:
    words = ["table=0", "task=sst2", "model=bert_base", "method=dense"]
    (cell,) = make_plan(read([*words, f"task.folder={tmp_path}"])).selected()
    assert f"{tmp_path}/train.parquet does not exist" in str(cell.blocked)


def test_a_folder_that_is_not_named_is_asked_for() -> None:
    says = "task reviews reads a folder and none is named: use data_root=DIR or task.folder=DIR"
    with pytest.raises(RequestError, match=says):
        Inputs().data_of({**TASK, "source": "folder"})
    with pytest.raises(RequestError, match="task mlm reads a folder and none is named: use data_r"):
        Inputs().data_of({**MLM, "source": "folder"})


def test_a_corpus_is_of_the_texts_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "cola").mkdir()
    (tmp_path / "cola" / "train.parquet").touch()
    found = rows_from(dict(MLM), (), str(tmp_path))
    assert [part["folder"] for part in found["corpus"]] == [str(tmp_path / "cola")]


def test_a_corpus_says_what_it_looked_for_and_how_to_do_without(tmp_path: Path) -> None:
    (tmp_path / "reviews").mkdir()
    task = rows_from(dict(MLM), (), str(tmp_path))
    with pytest.raises(Blocked) as blocked:
        Inputs().data_of(task)
    said = str(blocked.value)
    assert "looked for: sst2/train.parquet, cola/train.parquet." in said
    assert (
        f"of the tasks in {tmp_path}, and none is there" in said and "preset.pretrain=null" in said
    )
