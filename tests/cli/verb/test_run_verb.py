"""`run`: what is still to come is run, on what the store has already, and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from obert_sweeps.cli.door import main
from obert_sweeps.cli.verb import run
from obert_sweeps.schema import Stage
from obert_sweeps.store import Store
from obert_sweeps.store.place import FolderPlace

REQUEST = ["cells=t4/sst2/bert_base/obert/90", "cluster=inline", "tracker=none"]
EACH_STEP = "cluster.teacher_logits=each_step"


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The roles of the stages that were run, which only leave a result and a model."""
    roles: list[str] = []

    def run_stage(stage: dict[str, Any], runtime: dict[str, Any]) -> dict[str, Any]:
        spec, store = Stage.from_dict(stage), Store(runtime["store"])
        assert all(store.result(parent) is not None for parent in spec.parents.values())
        assert not any(store.lacks_model(stage_of(store, p)) for p in spec.parents.values())
        folder = store.folder(spec.id)
        folder.write_json("stage.json", stage)
        with folder.new_folder("model") as part:
            (part / "weights").write_bytes(b"w")
        metrics = {"accuracy": 90.0, "f1": 90.0}
        folder.write_json("result.json", {"id": spec.id, "status": "done", "metrics": metrics})
        roles.append(spec.tags["role"])
        return {"id": spec.id, "status": "done", "reason": None}

    monkeypatch.setattr("obert_sweeps.trial.run_stage", run_stage)
    monkeypatch.setattr(run, "check_stages", lambda stages, plan, allowed: None)
    monkeypatch.setattr(run, "conclude", lambda loaded, plan, store: 0)
    return roles


def stage_of(store: Store, stage_id: str) -> Stage:
    recorded = store.stage(stage_id)
    assert recorded is not None
    return Stage.from_dict(recorded)


def did(store: Path, *more: str) -> int:
    return main(["run", *REQUEST, f"store={store}", *more])


def test_finished_students_are_not_told_what_their_teacher_says(
    tmp_path: Path, ran: list[str]
) -> None:
    """They asked it at each step; once it is asked for all, they have no more questions."""
    assert did(tmp_path, EACH_STEP) == 0
    assert "transfer" in ran and "teacher_logits" not in ran
    ran.clear()
    assert did(tmp_path) == 0
    assert ran == []


def test_what_is_finished_is_read_from_the_store_and_a_freed_model_made_again(
    tmp_path: Path, ran: list[str]
) -> None:
    assert did(tmp_path) == 0
    first, store = list(ran), Store(str(tmp_path))
    (last,) = (i for i in store.ids() if stage_of(store, i).tags["role"] == "transfer")
    (upstream,) = (i for i in store.ids() if stage_of(store, i).tags["role"] == "upstream")
    store.folder(last).remove("result.json")
    ran.clear()
    assert did(tmp_path) == 0
    assert ran == ["transfer"] and set(first) > {"transfer", "upstream", "teacher_logits"}
    store.folder(last).remove("result.json")
    store.folder(upstream).free_folder("model")
    ran.clear()
    assert did(tmp_path) == 0
    assert ran == ["upstream", "transfer"]


def test_a_run_with_too_little_room_says_so_and_goes_on(
    tmp_path: Path,
    ran: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(FolderPlace, "room", lambda self: 0)
    assert did(tmp_path) == 0 and ran
    assert "0.0 kB free; free space: obert-sweeps gc" in capsys.readouterr().err
