"""Row sources: what is read, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from task_cases import GENERATOR, write

from obert_sweeps.schema import RequestError, StageError
from obert_sweeps.task.sources import FolderRows, GeneratedRows, HubRows, row_source, subset


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300))
def test_subset_is_fixed_nested_and_without_repeats(count: int, small: int, large: int) -> None:
    small, large = sorted((small, large))
    first, second = subset(count, "train", small, "x"), subset(count, "train", large, "x")
    if small >= count:
        assert first is None and second is None
        return
    assert first is not None and len(set(first)) == len(first) == small
    assert set(first) <= set(range(count))
    assert second is None or second[:small] == first
    assert subset(count, "train", small, "x") == first


def test_subset_shuffles_and_differs_by_split() -> None:
    train, validation = subset(1000, "train", 50, "x"), subset(1000, "validation", 50, "x")
    assert train != list(range(50)) and train != validation


def test_subset_refuses_nothing() -> None:
    with pytest.raises(StageError, match="no rows.*data_root=DIR"):
        subset(0, "train", None, "x")
    with pytest.raises(StageError, match="at least 1"):
        subset(10, "train", 0, "x")


def test_folder(tmp_path: Path) -> None:
    write(tmp_path, "train", sentence=list("abcd"), label=[0, 1, 0, 1], more=[1, 2, 3, 4])
    write(tmp_path, "empty", sentence=[], label=[])
    rows = FolderRows(tmp_path)
    everything = rows.rows("train", ["sentence", "label"])
    assert everything == [{"sentence": c, "label": i % 2} for i, c in enumerate("abcd")]
    part = rows.rows("train", ["sentence", "label"], 2)
    assert len(part) == 2 and all(row in everything for row in part)
    with pytest.raises(StageError, match="test.parquet does not exist"):
        rows.rows("test", ["label"])
    with pytest.raises(StageError, match="no column question; it has sentence, label, more"):
        rows.rows("train", ["question"])
    with pytest.raises(StageError, match="empty.parquet has no rows"):
        rows.rows("empty", ["label"])
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(StageError, match="cannot be read as parquet"):
        rows.rows("torn", ["label"])


class HubData:
    """As much of datasets.Dataset as is used."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.data = rows

    @property
    def column_names(self) -> list[str]:
        return list(self.data[0])

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Any:
        return iter(self.data)

    def select_columns(self, names: list[str]) -> HubData:
        return HubData([{name: row[name] for name in names} for row in self.data])

    def select(self, places: list[int]) -> HubData:
        return HubData([self.data[i] for i in places])


def test_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*args: Any, **keys: Any) -> HubData:
        asked.append((args, keys))
        return HubData([{"premise": str(i), "label": 0, "idx": i} for i in range(9)])

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    rows = HubRows("owner/name", "mnli", "abc", {"validation": "validation_matched"})
    assert len(rows.rows("validation", ["premise", "label"], 4)) == 4
    assert asked == [(("owner/name", "mnli"), {"revision": "abc", "split": "validation_matched"})]
    assert rows.rows("train", ["premise"])[3] == {"premise": "3"}
    assert asked[1][1]["split"] == "train"
    with pytest.raises(StageError, match="no column hypothesis"):
        rows.rows("train", ["hypothesis"])


def test_hub_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*args: Any, **keys: Any) -> HubData:
        raise ConnectionError("no route\nat all")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(StageError, match=r"owner/name, split train.*\(no route\).*data_root=DIR"):
        HubRows("owner/name", None, None).rows("train", ["label"])


def test_generated() -> None:
    rows = GeneratedRows("sst2", GENERATOR)
    assert len(rows.rows("train", ["sentence", "label"])) == 60
    assert len(rows.rows("train", ["sentence"], 7)) == 7
    with pytest.raises(StageError, match="no column question"):
        rows.rows("train", ["question"])


@pytest.mark.parametrize(
    ("source", "message"),
    [("folder", "no folder.*data_root=DIR"), ("hub", "no hub"), ("cloud", "not one of hub")],
)
def test_incomplete_source(source: str, message: str) -> None:
    keys: dict[str, Any] = dict.fromkeys(("hub", "hub_config", "revision", "folder"))
    with pytest.raises(RequestError, match=message):
        row_source(task="sst2", source=source, generator=GENERATOR, **keys)
