"""A teacher asked once for all its students: the same results, never stale, made by one of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from thread_group import together
from tiny_bert import CONFIG, Toy, data_of, encoder
from tiny_stage import run, runtime, stage, weights

from obert_sweeps.schema import Runtime, Stage
from obert_sweeps.stage.once import made_once
from obert_sweeps.stage.teacher_logits import TeacherQuery, teacher_of
from obert_sweeps.store import Store
from obert_sweeps.train import teacher
from obert_sweeps.train.forward import Setup
from obert_sweeps.trial import run_stage
from obert_sweeps.worker_group import WorkerGroup

CPU = torch.device("cpu")

DISTILL = {"hardness": 0.8, "temperature": 2.0}
FILE = Path("stages/logits/logits/logits.safetensors")


def logits_stage(name: str = "logits", of: str = "teacher", **changes: Any) -> dict[str, Any]:
    spec = stage(name, {"teacher": of}, task=changes.pop("task", {}))
    recipe = {key: spec["recipe"][key] for key in ("task", "model")}
    asking = {"precision": "fp32", "max_train_rows": None, **changes}
    return spec | {"recipe": recipe | {"kind": "teacher_logits", "logits": asking}}


def student(name: str, logits: str | None = None, **changes: Any) -> dict[str, Any]:
    parents = {"start": "teacher", "teacher": "teacher", **({"logits": logits} if logits else {})}
    spec = stage(name, parents, distill=DISTILL, reset_head=True, **changes)
    spec["recipe"]["model"]["config"] = CONFIG
    return spec


@pytest.fixture
def taught(tmp_path: Path) -> Path:
    run(tmp_path, stage("teacher"))
    run(tmp_path, logits_stage())
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """One entry for each time that a student called its teacher."""
    seen: list[int] = []
    asked = teacher.LiveTeacher.__call__

    def count(self: Any, part: Any) -> Any:
        seen.append(len(part["rows"]))
        return asked(self, part)

    monkeypatch.setattr(teacher.LiveTeacher, "__call__", count)
    yield seen


def log(store: Path, name: str) -> str:
    file = store / f"stages/{name}/log.txt"
    return file.read_text() if file.is_file() else ""


def same_weights(store: Path, one: str, other: str) -> None:
    first, second = weights(store, one), weights(store, other)
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-3, atol=1e-5)


def test_a_student_comes_to_the_same_without_calling_its_teacher(
    taught: Path, calls: list[int]
) -> None:
    result = Store(str(taught)).result("logits")
    assert result is not None and result["rows"] == 24 and result["cost"]["seconds"] > 0
    run(taught, student("live"))
    assert sum(calls) == 48  # two epochs of 24 rows
    calls.clear()
    run(taught, student("known", "logits"))
    assert calls == [] and "computing" not in log(taught, "known")
    same_weights(taught, "live", "known")


@pytest.mark.parametrize("fault", ["missing", "truncated", "another teacher's", "other values"])
def test_what_is_not_fit_is_made_again_before_it_is_used(taught: Path, fault: str) -> None:
    run(taught, student("known", "logits"))
    file = taught / FILE
    before, tensors = file.read_bytes(), load_file(file)
    if fault == "missing":
        file.unlink()
    elif fault == "truncated":
        file.write_bytes(before[:-7])
    elif fault == "another teacher's":  # whole, with a manifest of its own
        run(taught, stage("other", optimizer="adamax"))
        run(taught, logits_stage("others", of="other"))
        folder = file.parent
        folder.rename(folder.with_name("gone"))
        (taught / "stages/others/logits").rename(folder)
    else:
        changed = {name: tensor + 1 for name, tensor in tensors.items()}
        save_file(changed, file, metadata={"identity": str(teacher.identity_in(file))})
    run(taught, student("again", "logits"))
    assert file.read_bytes() == before
    assert "missing or stale: computing them" in log(taught, "again")
    for name, tensor in weights(taught, "known").items():
        assert torch.equal(weights(taught, "again")[name], tensor)


@pytest.mark.parametrize(
    "change", [{"task": {"rows": 20}}, {"max_train_rows": 16}, {"precision": "bf16"}]
)
def test_logits_of_other_rows_or_another_precision_are_not_taken(
    taught: Path, change: dict[str, Any]
) -> None:
    run(taught, student("fewer", "logits", **change))
    assert "missing or stale" in log(taught, "fewer")
    run(taught, student("live", **change))
    same_weights(taught, "live", "fewer")


def test_rows_that_are_drawn_anew_need_the_teacher_itself(tmp_path: Path, calls: list[int]) -> None:
    mlm = {"task": {"head": "mlm"}}
    run(tmp_path, stage("teacher", **mlm))
    spec = stage("student", {"start": "teacher", "teacher": "teacher"}, distill=DISTILL, **mlm)
    spec["parents"]["logits"] = "logits"  # of which there is no trace
    run(tmp_path, spec)
    assert sum(calls) == 48


def test_two_who_need_it_at_once_make_it_once(tmp_path: Path) -> None:
    made: list[int] = []
    found: list[Path] = []

    def make(part: Path) -> None:
        made.append(1)
        threading.Event().wait(0.5)
        (part / "said").write_text("yes")

    def use() -> None:
        folder = Store(str(tmp_path), beat_seconds=0.05).folder("shared")
        found.append(made_once(folder, "logits", lambda place: True, make))

    users = [threading.Thread(target=use) for _ in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert made == [1]
    assert [(place / "said").read_text() for place in found] == ["yes"] * 3


def test_a_maker_that_is_interrupted_leaves_nothing_that_is_taken_for_it(tmp_path: Path) -> None:
    folder = Store(str(tmp_path)).folder("shared")

    def stop(part: Path) -> None:
        (part / "said").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made_once(folder, "logits", lambda place: True, stop)
    place = made_once(
        folder,
        "logits",
        lambda place: True,
        lambda part: (part / "said").write_text("all") and None,
    )
    assert (place / "said").read_text() == "all"


def test_several_workers_ask_together_and_use_it_together(tmp_path: Path) -> None:
    run(tmp_path, stage("teacher"))
    run(tmp_path, logits_stage("alone"))
    done = together(lambda group: run_stage(logits_stage(), runtime(tmp_path), group), 2)
    assert [outcome["status"] for outcome in done] == ["done", "done"]
    ours, theirs = (
        load_file(tmp_path / f"stages/{n}/logits/logits.safetensors") for n in ("alone", "logits")
    )
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor)


def test_workers_who_do_not_all_find_it_all_call_the_teacher(tmp_path: Path) -> None:
    run(tmp_path, stage("teacher"))
    run(tmp_path, logits_stage())
    task = Toy(rows=24)
    folder = tmp_path / "stages/teacher/model"
    how, said = Runtime(**runtime(tmp_path)), []
    blind = Runtime(**runtime(tmp_path / "elsewhere"))

    def teachers(*ways: Runtime) -> list[str]:
        def work(group: WorkerGroup) -> str:
            setup = Setup(CPU, group=group, note=said.append)
            query = TeacherQuery("teacher", folder, encoder(), data_of(task), setup)
            return type(teacher_of(query, "logits", ways[group.rank])).__name__

        return together(work, 2)

    assert teachers(how, how) == ["KnownLogits"] * 2 and said == []
    assert teachers(how, blind) == ["LiveTeacher"] * 2
    assert (
        said
        == ["the teacher's logits of stage logits are missing or stale: computing at each step"] * 2
    )


def test_replay_needs_no_logits_that_are_gone(taught: Path) -> None:
    first = run(taught, student("known", "logits"))
    recorded = Stage.from_dict(json.loads((taught / "stages/known/stage.json").read_text()))
    assert recorded.parents["logits"] == "logits"
    outcome = run_stage(
        recorded.as_dict(), runtime(taught, output=str(taught / "replay"), again=True)
    )
    again = Store(str(taught / "replay")).result("known")
    assert outcome["status"] == "done" and again is not None
    assert again["metrics"] == first["metrics"]
