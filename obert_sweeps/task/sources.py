"""Where a task's rows come from: the hub, parquet files in a folder, or the demo's grammar.

Each source gives plain rows (dicts of Python values) and checks what it reads. `datasets` and
`pyarrow` are imported when they are first needed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from ..schema import RequestError, StageError, first_line
from . import demo

Row = dict[str, Any]
KINDS = ("hub", "folder", "generated")


class RowSource(ABC):
    @abstractmethod
    def rows(self, split: str, columns: list[str], max_rows: int | None = None) -> list[Row]:
        """The rows of a split, or a fixed, shuffled subset of them.

        Raises StageError for an absent split or column, or a split without rows.
        """


class HubRows(RowSource):
    """A data set of the Hugging Face hub. `splits` maps our split names to the hub's."""

    def __init__(
        self,
        hub: str,
        hub_config: str | None,
        revision: str | None,
        splits: Mapping[str, str] | None = None,
    ) -> None:
        self.hub = hub
        self.hub_config = hub_config
        self.revision = revision
        self.splits = dict(splits or {})

    def rows(self, split: str, columns: list[str], max_rows: int | None = None) -> list[Row]:
        from datasets import load_dataset

        what = f"{self.hub}{f' ({self.hub_config})' if self.hub_config else ''}, split {split}"
        try:
            data = load_dataset(
                self.hub,
                self.hub_config,
                revision=self.revision,
                split=self.splits.get(split, split),
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise StageError(
                f"{what}: the hub's data set cannot be read ({first_line(error)}). Where there is "
                "no network, give local parquet files: data_root=DIR, which reads "
                "DIR/<task>/<split>.parquet"
            ) from error
        _require(columns, data.column_names, what)
        picked = subset(len(data), split, max_rows, what)
        data = data.select_columns(columns)
        return list(data.select(picked) if picked is not None else data)


class FolderRows(RowSource):
    """Parquet files, `<folder>/<split>.parquet`."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def rows(self, split: str, columns: list[str], max_rows: int | None = None) -> list[Row]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = self.folder / f"{split}.parquet"
        if not file.is_file():
            raise StageError(
                f"{file} does not exist, so there are no rows for the split {split}. "
                "Put the file there or name another folder: data_root=DIR"
            )
        try:
            _require(columns, pq.read_schema(file).names, str(file))
            table = pq.read_table(file, columns=columns)
        except pa.ArrowException as error:
            raise StageError(
                f"{file} cannot be read as parquet ({first_line(error)}). Write it again."
            ) from error
        picked = subset(table.num_rows, split, max_rows, str(file))
        rows: list[Row] = (table.take(picked) if picked is not None else table).to_pylist()
        return rows


class GeneratedRows(RowSource):
    """The demo's rows for a task. `options` are the keyword arguments of `demo.rows`."""

    def __init__(self, task: str, options: Mapping[str, Any]) -> None:
        self.task = task
        self.options = dict(options)
        demo.check_options(task, self.options)

    def rows(self, split: str, columns: list[str], max_rows: int | None = None) -> list[Row]:
        rows = demo.rows(self.task, split, **self.options)
        picked = subset(len(rows), split, max_rows, f"generated {self.task}, split {split}")
        if rows:
            _require(columns, list(rows[0]), f"generated {self.task}")
        return [rows[i] for i in picked] if picked is not None else rows


def row_source(
    *,
    task: str,
    source: str,
    hub: str | None,
    hub_config: str | None,
    revision: str | None,
    folder: str | None,
    generator: Mapping[str, Any],
    hub_splits: Mapping[str, str] | None = None,
) -> RowSource:
    """The source that a task's configuration names. Raises RequestError where it is incomplete."""
    if source == "hub" and hub:
        return HubRows(hub, hub_config, revision, hub_splits)
    if source == "folder" and folder:
        return FolderRows(folder)
    if source == "generated":
        return GeneratedRows(task, generator)
    if source not in KINDS:
        raise RequestError(
            f"task.source={source} of {task} is not one of {', '.join(KINDS)}. "
            "Use task.source=hub, or data_root=DIR for local files."
        )
    use = "data_root=DIR" if source == "folder" else "task.hub=OWNER/NAME, or data_root=DIR"
    raise RequestError(f"task {task} has source: {source} but no {source}. Use {use}.")


def subset(count: int, split: str, max_rows: int | None, what: str) -> list[int] | None:
    """Places of a fixed, shuffled choice of `max_rows` of `count` rows, or None for all.

    A smaller choice is the beginning of a larger one. The stage's seed has no part in it.
    """
    if count == 0:
        raise StageError(f"{what} has no rows. Put rows there, or name other data: data_root=DIR")
    if max_rows is None or max_rows >= count:
        return None
    if max_rows < 1:
        raise StageError(
            f"{max_rows} rows of {what} are asked for: at least 1 is needed. "
            "Raise budget.max_train_rows or budget.max_eval_rows."
        )
    places = list(range(count))
    Random(f"rows of {split}").shuffle(places)
    return places[:max_rows]


def _require(columns: list[str], there: list[str], what: str) -> None:
    absent = [column for column in columns if column not in there]
    if absent:
        raise StageError(
            f"{what} has no column {', '.join(absent)}; it has {', '.join(there) or 'none'}. "
            "Rename the file's columns as in the hub's data set."
        )
