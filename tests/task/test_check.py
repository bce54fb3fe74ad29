"""check_folder: rows by split, and an error that names the file for each fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from task_cases import write

from obert_sweeps.schema import RequestError
from obert_sweeps.task.check import GLUE, check_folder


def recipe(folder: Path, **keys: Any) -> dict[str, Any]:
    return {
        "name": "sst2",
        "source": "folder",
        "folder": str(folder),
        "text_columns": ["sentence"],
        "evaluation_splits": ["validation"],
        **keys,
    }


def test_rows_by_split(tmp_path: Path) -> None:
    write(tmp_path, "train", sentence=["a", "b", "c"], label=[0, 1, 0])
    write(tmp_path, "validation", sentence=["a"], label=[0])
    assert check_folder(recipe(tmp_path)) == {"train": 3, "validation": 1}


def test_faults_name_the_file_and_the_way_out(tmp_path: Path) -> None:
    good = {"sentence": ["a"], "label": [0]}
    none = {"sentence": [], "label": []}
    cases: list[tuple[str, dict[str, Any] | None, str]] = [
        ("absent", None, "train.parquet, which does not exist"),
        ("label", {"sentence": ["a"]}, "no column label"),
        ("text", {"label": [0]}, "no column sentence"),
        ("empty", none, "no rows"),
    ]
    for name, columns, message in cases:
        folder = tmp_path / name
        write(folder, "validation", **good)
        if columns is not None:
            write(folder, "train", **columns)
        with pytest.raises(RequestError, match=message) as caught:
            check_folder(recipe(folder))
        assert str(folder / "train.parquet") in str(caught.value)
        assert "data_root=DIR" in str(caught.value)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="is not a folder.*data_root=DIR"):
        check_folder(recipe(tmp_path / "nowhere"))
    with pytest.raises(RequestError, match="no folder.*data_root=DIR"):
        check_folder({**recipe(tmp_path), "folder": None})


def test_not_parquet(tmp_path: Path) -> None:
    write(tmp_path, "validation", sentence=["a"], label=[0])
    (tmp_path / "train.parquet").write_text("not parquet")
    with pytest.raises(RequestError, match="cannot be read as parquet"):
        check_folder(recipe(tmp_path))


def test_squad_and_corpus(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write(tmp_path / "squad", split, id=["1"], question=["q"], context=["c"])
    task = {"name": "squad", "source": "folder", "folder": str(tmp_path / "squad")}
    with pytest.raises(RequestError, match="no column answers"):
        check_folder(task)
    part = {"data": "squad", "folder": str(tmp_path / "squad"), "text_columns": ["question"]}
    corpus = {"name": "mlm", "source": "folder", "folder": str(tmp_path), "corpus": [part, part]}
    assert check_folder(corpus) == {"train": 2}
    with pytest.raises(RequestError, match="no texts"):
        check_folder({**corpus, "corpus": []})


@pytest.mark.shared
def test_real_folders(shared_dir: Path) -> None:
    data = shared_dir / "data"
    rows = check_folder(recipe(data / "sst2"))
    assert rows == {"train": 67_349, "validation": 872}
    mnli = recipe(
        data / "mnli",
        name="mnli",
        text_columns=["premise", "hypothesis"],
        evaluation_splits=["validation", "validation_mismatched"],
    )
    assert check_folder(mnli)["validation_mismatched"] == 916
    with pytest.raises(RequestError, match="train.parquet, which does.*validation.parquet"):
        check_folder(recipe(data / "qnli", name="qnli", text_columns=["question", "sentence"]))
    squad = {"name": "squad", "source": "folder", "folder": str(data / "squad_by_article")}
    assert check_folder(squad) == {"train": 11_338, "validation": 2_777}


@pytest.mark.parametrize(
    ("labels", "num_labels", "says"),
    [
        ([0, 1, 2], 2, "row 2 is 2, and task sst2 needs 0 to 1"),
        ([0.0, 1.0, None], 2, "row 2 is None .none is there., and"),
        ([1.0, float("nan"), 0.0], 2, "row 1 is nan .none is there."),
        ([0.5, 1.0, 0.0], 2, "row 0 is 0.5, and"),
        ([1, -1, -1], 2, "row 1 is -1 .unlabelled, as in GLUE's test splits."),
        (["good", "bad", "good"], 2, "row 0 is the text 'good'.*Write the classes as numbers"),
        ([0.5, float("inf"), 1.0], 1, "row 1 is inf, and task sst2 needs a finite score"),
    ],
)
def test_the_first_row_without_a_label_is_named(
    tmp_path: Path, labels: list[Any], num_labels: int, says: str
) -> None:
    write(tmp_path, "train", sentence=["a", "b", "c"], label=labels)
    write(tmp_path, "validation", sentence=["a"], label=[0])
    task = recipe(tmp_path, _target_="obert_sweeps.task.glue.Glue", num_labels=num_labels)
    with pytest.raises(RequestError, match=says):
        check_folder(task)
    assert check_folder({**task, "_target_": "own.Task"})  # reads them in its own way


def test_whole_numbers_are_classes_however_they_are_written(tmp_path: Path) -> None:
    write(tmp_path, "train", sentence=["a", "b"], label=[0.0, 1.0])
    write(tmp_path, "validation", sentence=["a"], label=[True])
    task = recipe(tmp_path, _target_="obert_sweeps.task.glue.Glue", num_labels=2)
    assert check_folder(task) == {"train": 2, "validation": 1}


@pytest.mark.parametrize("statistics", [True, False])
def test_the_first_row_without_a_text_is_named(tmp_path: Path, statistics: bool) -> None:
    """Before anything starts, whether or not the file counts its nulls."""
    task = recipe(tmp_path, _target_=GLUE, num_labels=2, text_columns=["a", "b"])
    whole = {"a": ["x", "y"], "b": ["x", "y"], "label": [0, 1]}
    for split, texts in (("train", ["x", None]), ("validation", ["x", "y"])):
        table = pa.table({**whole, "b": pa.array(texts, pa.string())})
        pq.write_table(table, tmp_path / f"{split}.parquet", write_statistics=statistics)
    with pytest.raises(RequestError, match="row 1 has no text in column b") as caught:
        check_folder(task)
    assert str(tmp_path / "train.parquet") in str(caught.value)
    pq.write_table(pa.table(whole), tmp_path / "train.parquet", write_statistics=statistics)
    assert check_folder(task) == {"train": 2, "validation": 2}
