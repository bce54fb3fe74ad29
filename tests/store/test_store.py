"""The store's promises: whole files or none, torn lines, damaged checkpoints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from obert_sweeps.schema import RequestError, Stage
from obert_sweeps.store import StageFolder, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "runs"))


@pytest.fixture
def folder(store: Store) -> StageFolder:
    return store.folder("s1")


def names(folder: StageFolder) -> list[str]:
    return sorted(os.listdir(folder.path))


def test_result_is_there_or_not(store: Store, folder: StageFolder) -> None:
    assert store.result("s1") is None and store.ids() == []
    whole = {"id": "s1", "status": "done", "metrics": {"f1": 88.5}}
    folder.write_json("result.json", whole)
    assert store.result("s1") == whole
    assert store.ids() == ["s1"] and names(folder) == ["result.json"]


def test_a_write_that_fails_leaves_the_old_content(folder: StageFolder) -> None:
    folder.write_json("result.json", {"a": 1})
    with pytest.raises(TypeError):
        folder.write_json("result.json", {"a": object()})
    assert folder.read_json("result.json") == {"a": 1} and names(folder) == ["result.json"]


def test_a_truncated_result_is_no_result(store: Store, folder: StageFolder) -> None:
    folder.write_json("result.json", {"id": "s1", "status": "done"})
    whole = (folder.path / "result.json").read_bytes()
    (folder.path / "result.json").write_bytes(whole[: len(whole) // 2])
    assert store.result("s1") is None


@pytest.mark.parametrize("name", ["../s1", "a/b", "", ".hidden", "a\n", "s1 ; ls"])
def test_an_id_is_a_plain_name(store: Store, name: str) -> None:
    with pytest.raises(RequestError, match="stage id"):
        store.folder(name)


def test_a_reader_never_sees_half_a_file(store: Store, folder: StageFolder) -> None:
    code = (
        "import sys; from obert_sweeps.store import Store\n"
        "folder = Store(sys.argv[1]).folder('s1'); n = 0\n"
        "while True:\n    folder.write_json('x.json', [n] * 3000); n += 1\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(store.root)])
    try:
        seen, end = set(), time.monotonic() + 20
        while len(seen) < 20 and time.monotonic() < end:
            try:
                content = json.loads((folder.path / "x.json").read_text())
            except FileNotFoundError:
                assert not seen, "the file vanished while it was replaced"
                continue
            assert len(content) == 3000 and len(set(content)) == 1
            seen.add(content[0])
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert len(seen) == 20


def test_the_beginning_of_an_id_means_one_stage_or_is_refused(store: Store) -> None:
    for name in ("ab1", "ab2", "cd3"):
        store.folder(name).write_json("stage.json", {})
    assert store.id_of("c") == "cd3" and store.id_of("ab2") == "ab2"
    with pytest.raises(RequestError, match="'ab' fits 2 stages: ab1, ab2"):
        store.id_of("ab")
    with pytest.raises(RequestError, match="starts with 'x'. It has ab1, ab2, cd3"):
        store.id_of("x")


# ---- metrics.jsonl

RECORDS = st.lists(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=8), max_size=3),
    min_size=1,
    max_size=6,
)


@given(records=RECORDS, cut=st.integers(min_value=0, max_value=400))
def test_a_torn_last_line_is_ignored_and_repaired(records: list[dict], cut: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Store(root).folder("s1")
        for record in records:
            folder.append(record)
        assert folder.records() == records and folder.last_record() == records[-1]
        path = folder.path / "metrics.jsonl"
        content = path.read_bytes()[:cut]
        path.write_bytes(content)
        whole = records[: content.count(b"\n")]
        assert folder.records() == whole
        assert folder.last_record() == (whole[-1] if whole else None)
        folder.append({"step": 7})
        assert folder.records() == [*whole, {"step": 7}]
        assert all(json.loads(line) is not None for line in path.read_text().splitlines())


@given(junk=st.binary(max_size=60))
def test_junk_in_the_middle_does_not_hide_the_rest(junk: bytes) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Store(root).folder("s1")
        folder.append({"step": 1})
        with (folder.path / "metrics.jsonl").open("ab") as file:
            file.write(junk.replace(b"{", b"") + b"\n")
        folder.append({"step": 2})
        assert folder.records() == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("size", [10, 8190, 8191, 8192, 8193, 20_000])
def test_last_record_reads_from_the_end(folder: StageFolder, size: int) -> None:
    assert folder.last_record() is None
    for step in range(3):
        folder.append({"step": step, "text": "x" * size})
    assert folder.last_record() == {"step": 2, "text": "x" * size}
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "te')
    assert folder.last_record() == {"step": 2, "text": "x" * size}


def test_rewind_drops_what_will_be_logged_again(folder: StageFolder) -> None:
    for step in range(5):
        folder.append({"step": step})
    folder.rewind(2)
    assert [record["step"] for record in folder.records()] == [0, 1, 2]


# ---- checkpoints


def checkpoint(folder: StageFolder, step: int, text: str = "weights") -> None:
    with folder.new_checkpoint(step) as part:
        (part / "sub").mkdir()
        (part / "sub" / "model.bin").write_text(f"{text} {step}")
        (part / "state.json").write_text(str(step))


def test_the_newest_two_checkpoints_are_kept(folder: StageFolder) -> None:
    assert folder.latest_checkpoint() is None
    for step in (5, 20, 100):  # by number, not by name
        checkpoint(folder, step)
    assert folder.checkpoints() == ["checkpoint-20", "checkpoint-100"]
    latest = folder.latest_checkpoint()
    assert latest is not None and (latest / "sub" / "model.bin").read_text() == "weights 100"
    checkpoint(folder, 100, "again")
    assert (latest / "sub" / "model.bin").read_text() == "again 100"
    assert names(folder) == ["checkpoint-100", "checkpoint-20"]
    folder.drop_checkpoints()
    assert names(folder) == []


@pytest.mark.parametrize(("free", "meanwhile"), [(1, ["checkpoint-2"]), (2**60, None)])
def test_where_room_is_short_the_older_checkpoint_goes_before_a_new_one_is_written(
    folder: StageFolder, monkeypatch: pytest.MonkeyPatch, free: int, meanwhile: list[str] | None
) -> None:
    checkpoint(folder, 1)
    checkpoint(folder, 2)
    monkeypatch.setattr(type(folder.place), "room", lambda place: free)
    with folder.new_checkpoint(3) as part:
        assert folder.checkpoints() == (meanwhile or ["checkpoint-1", "checkpoint-2"])
        (part / "state.json").write_text("3")
    assert folder.checkpoints() == ["checkpoint-2", "checkpoint-3"]


@pytest.mark.parametrize("fault", ["flip", "truncate", "delete", "manifest"])
def test_a_damaged_checkpoint_falls_back_and_says_so(folder: StageFolder, fault: str) -> None:
    checkpoint(folder, 1)
    checkpoint(folder, 2)
    path = folder.path / "checkpoint-2" / "sub" / "model.bin"
    content = bytearray(path.read_bytes())
    if fault == "flip":
        content[3] ^= 1
        path.write_bytes(content)
    elif fault == "truncate":
        path.write_bytes(content[:-1])
    elif fault == "delete":
        path.unlink()
    else:
        (folder.path / "checkpoint-2" / "manifest.json").write_text("{")
    latest = folder.latest_checkpoint()
    assert latest is not None and latest.name == "checkpoint-1"
    log = (folder.path / "log.txt").read_text()
    assert "checkpoint-2 is damaged" in log and ("manifest" in log) == (fault == "manifest")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o007, 0o660)])
def test_who_may_read_a_folder_s_files_is_the_umask_s_to_say(
    folder: StageFolder, umask: int, mode: int
) -> None:
    before = os.umask(umask)
    try:
        with folder.new_folder("model") as part:
            save_file({"weight": np.ones(2)}, part / "model.safetensors")
            (part / "config.json").write_text("{}")
    finally:
        os.umask(before)
    found = {file.name: file.stat().st_mode & 0o777 for file in (folder.path / "model").iterdir()}
    assert len(found) == 3 and set(found.values()) == {mode}


def test_a_block_that_raises_leaves_no_checkpoint(folder: StageFolder) -> None:
    checkpoint(folder, 1)
    with pytest.raises(OSError, match="disk full"):
        with folder.new_checkpoint(2) as part:
            (part / "half").write_text("x")
            raise OSError("disk full")
    assert names(folder) == ["checkpoint-1"]


def test_a_kill_in_the_middle_leaves_no_half_checkpoint(store: Store, folder: StageFolder) -> None:
    checkpoint(folder, 1)
    code = (
        "import os, signal, sys; from obert_sweeps.store import Store\n"
        "with Store(sys.argv[1]).folder('s1').new_checkpoint(2) as part:\n"
        "    (part / 'half').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(store.root)]).returncode == -9
    assert len(names(folder)) == 2  # the leftover …
    latest = folder.latest_checkpoint()
    assert latest is not None and latest.name == "checkpoint-1"
    checkpoint(folder, 3)  # … is cleaned by the next write
    assert names(folder) == ["checkpoint-1", "checkpoint-3"]


def test_a_folder_that_was_made_again_is_not_freed_even_if_its_maker_was_killed_then(
    folder: StageFolder,
) -> None:
    def model() -> None:
        with folder.new_folder("model") as part:
            (part / "weights").write_text("w")

    model()
    folder.free_folder("model")
    assert folder.freed("model")
    model()
    (folder.path / "model.freed").mkdir()  # as between the new folder and the end of the old mark
    assert not folder.freed("model")


@pytest.mark.parametrize(
    ("kind", "status", "lacks"),
    [
        ("train", "done", True),
        ("export", "done", True),
        ("train", "not_converged", False),  # it may have left none
        ("benchmark", "done", False),
        ("teacher_logits", "done", False),
    ],
)
def test_a_model_is_lacking_where_a_finished_stage_should_have_left_one(
    store: Store, folder: StageFolder, kind: str, status: str, lacks: bool
) -> None:
    stage = Stage("s1", "s1", {"kind": kind}, 1)
    assert not store.lacks_model(stage)  # it has not been run
    folder.write_json("result.json", {"status": status, "metrics": {}})
    assert store.lacks_model(stage) is lacks
    with folder.new_folder("model") as part:
        (part / "weights").write_text("w")
    assert not store.lacks_model(stage)


# ---- cells, root


def test_cells(store: Store) -> None:
    record = {"id": "t1/squad/bert_base/obert/2of4-1epoch", "seed": 42, "measured": {"f1": 1.0}}
    assert store.cells() == []
    store.write_cell(record)
    store.write_cell({**record, "seed": 7})
    store.write_cell({**record, "measured": {"f1": 2.0}})
    assert sorted(r["measured"]["f1"] for r in store.cells()) == [1.0, 2.0]
    (file,) = (store.root / "cells").glob("t1.squad.bert_base.obert.2of4-1epoch.*.seed42.json")
    assert file.is_file()


def test_a_cell_of_two_presets_has_a_record_of_each(store: Store) -> None:
    record = {"id": "t5/sst2/bert_base/dense", "seed": 42, "measured": {"accuracy": 1.0}}
    store.write_cell(record | {"stages": ["pretrained", "small"]})
    store.write_cell(record | {"stages": ["paper"]})
    store.write_cell(record | {"stages": ["paper"], "settings": ["method.damp=1"]})
    store.write_cell(record | {"stages": ["paper"], "measured": {"accuracy": 2.0}})
    found = [(r["stages"][-1], r["measured"]["accuracy"]) for r in store.cells()]
    assert sorted(found) == [("paper", 1.0), ("paper", 2.0), ("small", 1.0)]


def test_an_unwritable_root_says_what_to_type(tmp_path: Path) -> None:
    good = Store(str(tmp_path / "a" / "b"))
    good.check_writable()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file" / "runs", Path("/proc/nothing/here")):
        with pytest.raises(RequestError, match=r"obert-sweeps sync store=\$HOME/runs"):
            Store(str(root)).check_writable("sync")
