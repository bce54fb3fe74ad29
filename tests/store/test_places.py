"""What every place keeps to: a folder, an object store in memory, and S3 over HTTP."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from s3_server import s3_server

from obert_sweeps.schema import RequestError
from obert_sweeps.store import Held, Store
from obert_sweeps.store.place import FolderPlace, Place, place_at
from obert_sweeps.store.place.base import fault
from obert_sweeps.store.place.bucket import BucketPlace


class Forgetful(MemoryFileSystem):
    """Takes `mode="create"` and writes all the same, as back ends do that do not know it."""

    protocol = "forgetful"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **more: object) -> None:
        super().pipe_file(path, value)


fsspec.register_implementation("forgetful", Forgetful, clobber=True)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, s3_server(patch) as address:
        yield address


@pytest.fixture(params=["folder", "memory", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "this-machine"))
    name = uuid.uuid4().hex
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{name}"
    return str(tmp_path / "runs") if request.param == "folder" else f"memory://{name}/runs"


@pytest.fixture
def place(address: str) -> Place:
    return place_at(address)


def test_files_are_written_read_listed_and_removed(place: Place, address: str) -> None:
    assert place.names() == [] and place.size() == 0
    with pytest.raises(FileNotFoundError):
        place.read("a.json")
    place.write("a.json", b"one")
    place.write("a.json", b"two!")
    part = place.sub("stages/s1")
    part.write("b.json", b"12345")
    again = place_at(address)
    assert again.read("a.json") == b"two!" and again.read("stages/s1/b.json") == b"12345"
    assert again.read("a.json", last=2) == b"o!" and again.read("a.json", last=99) == b"two!"
    assert again.names() == ["a.json", "stages"] and again.names("stages") == ["s1"]
    assert (again.size("a.json"), again.size("stages"), again.size()) == (4, 5, 9)
    assert part.address == f"{place.address}/stages/s1" and part.names() == ["b.json"]
    for name in ("a.json", "stages/s1", "nothing"):
        place.remove(name)
    assert again.names("stages") == [] and again.size() == 0
    place.check_writable()
    assert again.size() == 0


def one_creates(address: str, key: str, takers: int) -> None:
    """Of so many who create a file at once one does, and its content is there."""
    won: list[int] = []

    def create(number: int) -> None:
        if place_at(address).create(key, str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(takers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and place_at(address).read(key) == str(won[0]).encode()


def test_of_many_who_create_a_file_one_does(address: str) -> None:
    assert place_at(address).exclusive
    one_creates(address, "lease.1.json", 12)
    assert place_at(address).names() == ["lease.1.json"]  # nothing is left of the trying out


def test_a_folder_is_there_whole_or_not_at_all(place: Place, address: str) -> None:
    def fill(text: str) -> None:
        with place.new_folder("model") as part:
            (part / "sub").mkdir()
            (part / "sub" / "weights").write_text(text)
            (part / "config.json").write_text("{}")
            assert not place_at(address).has_folder("model")

    fill("first")
    other = place_at(address)
    assert other.has_folder("model")
    copy = other.get_folder("model")
    assert fault(copy) is None and (copy / "sub" / "weights").read_text() == "first"
    assert set(json.loads((copy / "manifest.json").read_text())) == {"config.json", "sub/weights"}
    with pytest.raises(ZeroDivisionError):
        with place.new_folder("half") as part:
            (part / "x").write_text("x")
            raise ZeroDivisionError
    with pytest.raises(Held):
        with place.new_folder("lost", lambda: (_ for _ in ()).throw(Held())) as part:
            (part / "x").write_text("x")
    assert place_at(address).names() == ["model"]

    place.strip_folder("model", "model.freed")
    assert not other.has_folder("model") and other.has_folder("model.freed")
    assert set(json.loads(other.read("model.freed/manifest.json"))) == {
        "config.json",
        "sub/weights",
    }
    with pytest.raises(FileNotFoundError):
        place_at(address).get_folder("model")
    fill("second")
    copy = place_at(address).get_folder("model")
    assert fault(copy) is None and (copy / "sub" / "weights").read_text() == "second"


def test_lines_are_added_by_one_process_after_another(address: str) -> None:
    first = place_at(address)
    first.append("log.txt", b"one\n")
    first.append("log.txt", b"two\n")
    first.flush()
    second = place_at(address)
    second.append("log.txt", b"three\n")
    second.flush()
    assert place_at(address).read("log.txt") == b"one\ntwo\nthree\n"
    second.write("log.txt", b"one\n")
    second.append("log.txt", b"2\n")
    second.flush()
    assert place_at(address).read("log.txt") == b"one\n2\n"


def test_a_stage_is_held_by_one_driver(address: str) -> None:
    def store() -> Store:
        return Store(address, stale_after=5.0, beat_seconds=0.05)

    with store().folder("s1").lease("driver A") as lease:
        with pytest.raises(Held, match="driver A"):
            with store().folder("s1").lease("driver B"):
                pass
        store().folder("s1").place.create(f"lease.{lease.number + 1}.json", b'{"owner": "C"}')
        with pytest.raises(Held):
            store_of_a = store().folder("s1")
            store_of_a._lease = lease
            store_of_a.write_json("result.json", {})
    assert store().result("s1") is None
    state = store().folder("s1").lease_state()
    assert state is not None and state.owner == "C"


def test_a_stage_folder_keeps_its_promises(address: str) -> None:
    folder = Store(address).folder("s1")
    with folder.lease("driver"):
        for step in range(5):
            folder.append({"step": step, "text": "x" * 5000})
        folder.log("first\nsecond")
        for step in (2, 4, 9):
            with folder.new_checkpoint(step) as part:
                (part / "state.pt").write_text(f"state {step}")
        seen = Store(address).folder("s1")  # what was said before a checkpoint is there with it
        assert [r["step"] for r in seen.records()] == list(range(5))
        assert (seen.last_record() or {})["step"] == 4
        assert seen.checkpoints() == ["checkpoint-4", "checkpoint-9"]
        folder.rewind(2)
        folder.append({"step": 3})
        folder.write_json("result.json", {"id": "s1", "status": "done", "metrics": {}})
        folder.drop_checkpoints()
    store = Store(address)
    seen = store.folder("s1")
    assert [r["step"] for r in seen.records()] == [0, 1, 2, 3] and seen.checkpoints() == []
    assert [line.split(" ", 2)[2] for line in seen.log_tail(9)] == ["first", "second"]
    assert store.ids() == ["s1"] and store.result("s1") == {
        "id": "s1",
        "status": "done",
        "metrics": {},
    }
    store.write_cell({"id": "t5/sst2/dense", "seed": 3})
    assert Store(address).cells() == [{"id": "t5/sst2/dense", "seed": 3}]


# ---- buckets alone


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BucketPlace:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "this-machine"))
    return BucketPlace(f"memory://{uuid.uuid4().hex}/runs")


def test_a_damaged_copy_is_fetched_again_and_a_damaged_original_is_named(
    memory: BucketPlace,
) -> None:
    with memory.new_folder("model") as part:
        (part / "weights").write_text("whole")
    copy = memory.get_folder("model")
    (copy / "weights").write_text("whale")
    assert fault(memory.get_folder("model")) is None
    assert (copy / "weights").read_text() == "whole"
    memory.write("model/weights", b"whale")
    (copy / "weights").unlink()
    assert fault(memory.get_folder("model")) == "weights has changed since it was written"
    memory._fs.rm_file(memory._at("model/weights"))
    assert fault(memory.get_folder("model")) == "weights is missing or unreadable"


def test_a_manifest_leads_nowhere_else(memory: BucketPlace, tmp_path: Path) -> None:
    memory.write("evil", b"x")
    memory.write("model/manifest.json", json.dumps({"../../../../out": "", "/tmp/o": ""}).encode())
    memory.get_folder("model")
    assert not list(tmp_path.rglob("out"))


def test_the_answer_to_a_create_was_lost(memory: BucketPlace, monkeypatch) -> None:
    """The library asks again and is told that the key exists: by us."""
    assert memory.exclusive
    real = memory._fs.pipe_file

    def twice(path: str, content: bytes, **how: object) -> None:
        real(path, content, **how)
        real(path, content, **how)

    monkeypatch.setattr(memory._fs, "pipe_file", twice)
    assert memory.create("lease.1.json", b"mine") is True
    assert memory.create("lease.1.json", b"yours") is False


def test_where_keys_cannot_be_created_one_driver_works(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(BucketPlace, "settle_seconds", 0.2)
    address = f"forgetful://{uuid.uuid4().hex}/runs"
    assert not place_at(address).exclusive
    one_creates(address, "key", 6)

    def store() -> Store:
        return Store(address, stale_after=5.0, beat_seconds=0.05)

    with store().sole_driver("driver A"):
        with pytest.raises(RequestError, match="one driver at a time.*driver A"):
            with store().sole_driver("driver B"):
                raise AssertionError("two drivers")
    with store().sole_driver("driver B"):
        pass


def test_a_folder_or_a_bucket_that_can_create_takes_many_drivers(tmp_path: Path) -> None:
    with Store(str(tmp_path)).sole_driver("A"), Store(str(tmp_path)).sole_driver("B"):
        assert FolderPlace(tmp_path).names() == []


@pytest.mark.parametrize(
    ("address", "says"),
    [("nonsense://x/y", "s3://BUCKET"), ("s3://no-such-bucket/runs", "cannot be written")],
)
def test_a_store_that_is_not_there_is_refused(
    address: str, says: str, bucket: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(RequestError, match=says):
        Store(address).check_writable()
