"""Whether local data can serve a task, from parquet metadata, labels and null texts.

Imports neither torch nor transformers nor datasets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..schema import RequestError, first_line
from .label_values import described, label_of, wanted

GLUE = "obert_sweeps.task.glue.Glue"


def check_folder(task: dict[str, Any]) -> dict[str, int]:
    """Rows by split of a task recipe with `source: folder`.

    Raises RequestError naming the file, what it lacks, and what to type: no folder, no file for a
    split, no parquet, a column absent, no rows, or a label that is none. For a corpus: the rows of
    all its files, as `train`, of which the task itself holds some out.
    """
    corpus = task.get("corpus")
    if corpus is not None and "text_columns" not in task:
        return {"train": _corpus_rows(task, corpus)}
    name = task["name"]
    folder = _folder(name, task.get("folder"))
    columns = needed_columns(task)
    splits = ["train", *(task.get("evaluation_splits") or ["validation"])]
    rows = {split: _rows(name, folder / f"{split}.parquet", columns) for split in splits}
    if task.get("_target_") == GLUE:  # a class of one's own reads labels in its own way
        for split in splits:
            _check_texts(name, folder / f"{split}.parquet", list(task["text_columns"]))
            _check_labels(name, folder / f"{split}.parquet", task["num_labels"])
    return rows


def needed_columns(task: dict[str, Any]) -> list[str]:
    """The columns a task reads: its texts and label, or those of SQuAD."""
    if "text_columns" in task:
        return [*task["text_columns"], "label"]
    return ["id", "question", "context", "answers"]


def _corpus_rows(task: dict[str, Any], corpus: list[dict[str, Any]]) -> int:
    if not corpus:
        raise RequestError(
            f"task {task['name']} has no texts to learn from: none of the folders of its corpus is "
            "at hand. Use data_root=DIR with DIR/<task>/train.parquet for at least one task."
        )
    total = 0
    for part in corpus:
        name = f"{task['name']} (corpus {part.get('data', '')})"
        folder = _folder(name, part.get("folder"))
        total += _rows(name, folder / "train.parquet", list(part["text_columns"]))
    return total


def _folder(name: str, folder: str | None) -> Path:
    if not folder:
        raise RequestError(
            f"task {name} has source: folder but no folder. Use data_root=DIR, which reads "
            "DIR/<task>/<split>.parquet"
        )
    path = Path(folder)
    if not path.is_dir():
        raise RequestError(
            f"the data of {name} was not found: {path} is not a folder. Put the task's parquet "
            "files there, or use data_root=DIR (and task.data=NAME for a folder of another name)."
        )
    return path


def _rows(name: str, file: Path, columns: list[str]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not file.is_file():
        have = ", ".join(sorted(p.name for p in file.parent.glob("*.parquet"))) or "no parquet file"
        raise RequestError(
            f"task {name} needs {file}, which does not exist; the folder has {have}. Put the file "
            "there, or use data_root=DIR or task.data=NAME for another folder."
        )
    try:
        with pq.ParquetFile(file) as parquet:
            there, rows = parquet.schema_arrow.names, parquet.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise RequestError(
            f"{file} cannot be read as parquet ({first_line(error)}), so task {name} cannot use "
            "it. Write it again, or use data_root=DIR for another copy."
        ) from error
    absent = [column for column in columns if column not in there]
    if absent:
        raise RequestError(
            f"{file} has no column {', '.join(absent)}, which task {name} needs; it has "
            f"{', '.join(there)}. Rename its columns as in the hub's data set, or use "
            "data_root=DIR for another copy."
        )
    if rows == 0:
        raise RequestError(
            f"{file} has no rows, so task {name} has nothing to read. Put rows there, or use "
            "data_root=DIR for another copy."
        )
    return int(rows)


def _check_texts(name: str, file: Path, columns: list[str]) -> None:
    """RequestError naming the first row that lacks a text; columns without nulls are not read."""
    import pyarrow.parquet as pq

    for column in columns:
        if not _may_lack(file, column):
            continue
        texts = pq.read_table(file, columns=[column]).column(column)
        if texts.null_count:
            row = texts.is_null().index(True).as_py()
            raise RequestError(
                f"{file}: row {row} has no text in column {column}, which task {name} reads."
                " Mend or drop the row, or use data_root=DIR for another copy."
            )


def _may_lack(file: Path, column: str) -> bool:
    """Whether the file's own counts leave it open that a value of the column is null."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as parquet:
        facts, place = parquet.metadata, parquet.schema_arrow.names.index(column)
        if facts.num_columns != len(parquet.schema_arrow.names):
            return True  # a nested column has several places, so names do not tell them
        groups = (facts.row_group(k).column(place) for k in range(facts.num_row_groups))
        counts = [g.statistics and g.statistics.null_count for g in groups]
    return any(count is None or count > 0 for count in counts)


def _check_labels(name: str, file: Path, num_labels: int) -> None:
    """RequestError naming the first row whose label is none."""
    import pyarrow.parquet as pq

    column = pq.read_table(file, columns=["label"]).column("label")
    if all(label_of(value, num_labels) is not None for value in column.unique().to_pylist()):
        return
    rows = enumerate(column.to_pylist())
    row, value = next((r, v) for r, v in rows if label_of(v, num_labels) is None)
    mend = "Write the classes as numbers" if isinstance(value, str) else "Mend or drop the row"
    raise RequestError(
        f"{file}: the label of row {row} is {described(value)}, and task {name} needs"
        f" {wanted(num_labels)}. {mend}, or name labelled data: data_root=DIR (task.num_labels=N"
        " for another number of classes, 1 for scores)."
    )
