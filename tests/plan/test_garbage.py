"""gc: what goes and what stays, and that a freed model is made again when it is needed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from full_disk import full_disk
from tiny_stage import one_shot, runtime, stage, weights

from obert_sweeps import sweep
from obert_sweeps.cli.verb import gc
from obert_sweeps.plan.garbage import find, free, held
from obert_sweeps.plan.to_run import to_run
from obert_sweeps.schema import RequestError, Runtime, Stage
from obert_sweeps.store import Store
from obert_sweeps.sweep.events import Event

MODEL = b"w" * 50_000


def make(
    store: Store, name: str, *parents: str, model: bool = True, done: bool = True, steps: int = 0
) -> Stage:
    """A stage of its own in the store, finished or with a checkpoint."""
    of = Stage(name, f"{name} seed 1", {}, 1, {f"role{k}": p for k, p in enumerate(parents)})
    folder = store.folder(name)
    folder.write_json("stage.json", of.as_dict())
    folder.append({"step": 1})
    if model:
        with folder.new_folder("model") as part:
            (part / "model.safetensors").write_bytes(MODEL)
    if steps:
        with folder.new_checkpoint(steps) as part:
            (part / "state.pt").write_bytes(MODEL)
    if done:
        folder.write_json("result.json", {"id": name, "status": "done", "metrics": {}})
    return of


def plan_of(stages: list[Stage], finals: set[str], blocked: bool = False) -> Any:
    cell = SimpleNamespace(finals=dict(enumerate(finals)), blocked="no data" if blocked else None)
    return SimpleNamespace(
        stages={s.id: s for s in stages},
        cells={"c": cell},
        selected=lambda: [cell],
        blocked=lambda: [],
        wanted=lambda: stages,
        preset="demo",
        seeds=[1],
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "runs"), beat_seconds=0.1)


def found(plan: Any, store: Store) -> set[tuple[str, str]]:
    return {(item.stage, item.what) for item in find(plan, store, held(store))}


def ask(plan: Any, store: Store, monkeypatch: Any, capsys: Any, confirm: bool) -> dict[str, Any]:
    monkeypatch.setattr(gc, "make_plan", lambda loaded: plan)
    request = SimpleNamespace(store=store.address, format="json", confirm=confirm)
    assert gc.main(SimpleNamespace(request=request)) == 0
    return json.loads(capsys.readouterr().out)


def test_only_what_no_cell_needs_goes(store: Store, monkeypatch, capsys) -> None:
    plan = plan_of(
        [
            make(store, "dense"),  # a cell's result and a parent
            make(store, "upstream", "dense"),  # all that go on from it are done
            make(store, "half", "dense"),  # one that goes on from it is not
            make(store, "pruned", "upstream", "half", steps=9),  # killed before it tidied up
            make(store, "later", "half", done=False, model=False, steps=7),
        ],
        {"dense", "pruned", "later"},
    )
    make(store, "other", steps=0)
    make(store, "theirs")  # a cell of another request, on record
    store.write_cell({"id": "t0/sst2/mine", "seed": 1, "stages": ["other", "theirs"]})
    make(store, "begun", done=False, model=False, steps=3)
    (store.root / "replay" / "stages").mkdir(parents=True)
    (store.root / "replay" / "stages" / "x").write_bytes(MODEL)
    torn = store.folder("later").path / ".checkpoint-8.1.part"
    torn.mkdir()
    (torn / "state.pt").write_bytes(MODEL)
    expected = {
        ("upstream", "model"),
        ("pruned", "checkpoint-9"),
        ("later", ".checkpoint-8.1.part"),
        ("other", "model"),
        ("begun", "checkpoint-3"),
        ("", "replay"),
    }
    listed = ask(plan, store, monkeypatch, capsys, confirm=False)
    assert {(i["stage"], i["what"]) for i in listed["items"]} == expected == found(plan, store)
    assert listed["freed"] == 0 and listed["bytes"] > 6 * len(MODEL)
    before = store.place.size()
    freed = ask(plan, store, monkeypatch, capsys, confirm=True)
    assert freed["freed"] == listed["bytes"] and found(plan, store) == set()
    assert before - store.place.size() == pytest.approx(freed["freed"], abs=1000)
    for name in ("upstream", "other"):
        assert store.result(name) and store.folder(name).records() == [{"step": 1}]
        assert store.folder(name).freed("model") and not store.folder(name).has_folder("model")
        manifest = store.folder(name).read_json("model.freed/manifest.json")
        assert set(manifest) == {"model.safetensors"}  # what it was is still on record
    assert store.folder("later").checkpoints() == ["checkpoint-7"]


def test_what_somebody_runs_stays_and_what_it_descends_from(store: Store) -> None:
    stages = [make(store, "top"), make(store, "mid", "top"), make(store, "mine")]
    stages.append(make(store, "runs", "mid", done=False, model=False, steps=1))
    make(store, "free")
    plan = plan_of(stages, {"mine"})
    with store.folder("runs").lease("another driver of this request"):
        assert found(plan, store) == {("free", "model")}
    assert found(plan_of([stages[2]], {"mine"}), store) == {
        ("free", "model"),
        ("top", "model"),
        ("mid", "model"),
        ("runs", "checkpoint-1"),
    }


def test_while_another_request_runs_no_model_goes_that_it_may_ask_for(
    store: Store, monkeypatch, capsys
) -> None:
    """What its driver has queued is nowhere on disk; here a stage that goes on from `dense`."""
    stages = [make(store, "dense"), make(store, "mine", "dense", steps=9)]
    make(store, "upstream")
    make(store, "begun", done=False, model=False, steps=3)
    make(store, "theirs", done=False, model=False)
    plan = plan_of(stages, {"mine"})
    with store.folder("theirs").lease("their driver"):
        assert found(plan, store) == {("mine", "checkpoint-9")}
        told = ask(plan, store, monkeypatch, capsys, confirm=False)
        gc.show(told, False)
        assert "is being run by their driver" in (said := capsys.readouterr().out)
        assert "all models are kept" in said
    after = {("dense", "model"), ("upstream", "model"), ("begun", "checkpoint-3")}
    assert found(plan, store) == {("mine", "checkpoint-9"), *after}


def test_a_driver_that_died_elsewhere_keeps_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path), stale_after=0.5, beat_seconds=0.1)
    make(store, "theirs")
    lease = {"owner": "their driver", "machine": "another boot", "pid": 1, "counter": 5}
    (store.folder("theirs").path / "lease.1.json").write_text(json.dumps(lease))
    assert found(plan_of([make(store, "mine")], {"mine"}), store) == {("theirs", "model")}


def test_cached_rows_go_in_a_bucket_too_with_their_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = Store("memory://gc-of-rows/runs")
    plan = plan_of([make(store, "mine")], {"mine"})
    with Store(f"{store.address}/cache").folder("key").new_folder("rows") as part:
        (part / "rows.safetensors").write_bytes(MODEL)
    (cached,) = (item for item in find(plan, store, held(store)) if item.what == "cache")
    assert cached.bytes > 2 * len(MODEL)  # in the bucket, and the copy here
    assert free(cached, store) and store.place.size("cache") == 0
    assert [path for path in tmp_path.rglob("rows.safetensors")] == []
    assert store.folder("mine").has_folder("model")


def test_what_a_freed_model_will_be_made_from_again_stays(store: Store) -> None:
    stages = [make(store, "top"), make(store, "mid", "top"), make(store, "was", "mid")]
    store.folder("mid").free_folder("model")
    assert found(plan_of(stages, {"was"}), store) == {("top", "model")}
    stages.append(Stage("new", "new seed 1", {}, 1, {"start": "mid"}))  # needs it once more
    assert found(plan_of(stages, {"was", "new"}), store) == set()


def test_where_a_cell_is_blocked_its_stages_are_not_taken_for_anothers(store: Store) -> None:
    make(store, "whose", steps=1)
    plan = plan_of([make(store, "mine")], {"mine"}, blocked=True)
    assert found(plan, store) == {("whose", "checkpoint-1")}  # finished: of no use to anyone


def test_the_model_that_a_cell_is_measured_against_stays(store: Store) -> None:
    plan = plan_of([make(store, "dense"), make(store, "mine", "dense")], {"mine"})
    plan.cells["its dense cell, not selected"] = SimpleNamespace(finals={1: "dense"})
    assert found(plan, store) == set()


def test_what_was_begun_since_it_was_listed_stays(store: Store) -> None:
    make(store, "theirs")
    (item,) = find(plan_of([make(store, "mine")], {"mine"}), store, held(store))
    with store.folder("theirs").lease("another driver"):
        assert not free(item, store)
    assert store.folder("theirs").has_folder("model")
    assert free(item, store)
    assert not store.folder("theirs").has_folder("model")


def test_what_was_kept_does_not_count_as_freed(store: Store, monkeypatch, capsys) -> None:
    make(store, "theirs")
    make(store, "other")
    plan = plan_of([make(store, "mine")], {"mine"})
    listed = find(plan, store, held(store))
    monkeypatch.setattr(gc, "find", lambda *_: listed)
    with store.folder("theirs").lease("another driver"):
        told = ask(plan, store, monkeypatch, capsys, confirm=True)
    (kept,) = (item.bytes for item in listed if item.stage == "theirs")
    assert told["freed"] == told["bytes"] - kept > len(MODEL)


def test_a_full_disk_is_freed(monkeypatch, capsys) -> None:
    with full_disk(2**20) as root:
        store = Store(str(root / "runs"))
        stages = [make(store, "up"), make(store, "down", "up")]
        with pytest.raises(OSError, match="No space left"):
            (root / "ballast").write_bytes(b"x" * 2**20)
        with pytest.raises(OSError, match="No space left"):
            store.folder("down").write_json("more.json", ["x" * 10_000])
        plan = plan_of(stages, {"down"})
        assert ask(plan, store, monkeypatch, capsys, confirm=True)["freed"] > len(MODEL)
        store.folder("down").write_json("more.json", ["x" * 10_000])


def run(root: Path, stages: list[Stage]) -> list[tuple[str, str]]:
    events: list[Event] = []
    how = Runtime(**runtime(root))
    sweep.run_plan(stages, how, {"runner": "inline"}, events.append, ())
    return [(event.kind, event.stage) for event in events if event.kind != "finished"]


def test_a_freed_model_is_made_again_when_a_new_stage_needs_it(tmp_path: Path) -> None:
    dense, pruned = Stage.from_dict(stage("dense")), Stage.from_dict(one_shot())
    more = Stage.from_dict(one_shot("more", 0.8))
    store = Store(str(tmp_path))
    assert run(tmp_path, [dense, pruned]) == [("started", "dense"), ("started", "pruned")]
    before, result = weights(tmp_path, "dense"), store.result("dense")
    store.folder("dense").free_folder("model")
    assert run(tmp_path, [dense, pruned]) == [] and to_run([dense, pruned], store) == []
    assert store.result("dense") == result

    assert run(tmp_path, [dense, pruned, more]) == [("started", "dense"), ("started", "more")]
    after = weights(tmp_path, "dense")
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert store.result("dense")["metrics"] == result["metrics"]  # type: ignore[index]
    assert not (tmp_path / "stages/dense/model.freed").exists()


def test_a_model_deleted_by_hand_is_made_again_when_a_new_stage_needs_it(tmp_path: Path) -> None:
    dense, pruned = Stage.from_dict(stage("dense")), Stage.from_dict(one_shot())
    assert run(tmp_path, [dense]) == [("started", "dense")]
    shutil.rmtree(tmp_path / "stages/dense/model")
    assert run(tmp_path, [dense]) == []  # nothing needs it
    assert run(tmp_path, [dense, pruned]) == [("started", "dense"), ("started", "pruned")]
    store = Store(str(tmp_path))
    assert store.result("pruned") is not None and store.folder("dense").has_folder("model")


def test_what_lacks_status_and_metrics_is_no_result_and_the_log_says_so(tmp_path: Path) -> None:
    dense, store = Stage.from_dict(stage("dense")), Store(str(tmp_path))
    store.folder("dense").write_json("result.json", {})
    assert store.result("dense") is None and to_run([dense], store) == [dense]
    assert run(tmp_path, [dense]) == [("started", "dense")]
    assert "it does not count" in "\n".join(store.folder("dense").log_tail(50))
    assert store.result("dense") is not None


def test_a_replay_without_its_parents_model_is_refused(tmp_path: Path) -> None:
    from obert_sweeps.cli.verb import replay

    run(tmp_path, [Stage.from_dict(stage("dense")), Stage.from_dict(one_shot())])
    Store(str(tmp_path)).folder("dense").free_folder("model")
    loaded = SimpleNamespace(request=SimpleNamespace(store=str(tmp_path), stage="pruned"))
    with pytest.raises(RequestError, match="gc has freed"):
        replay.main(loaded)  # type: ignore[arg-type]


def test_a_teacher_is_asked_only_where_a_student_is_to_be_run(store: Store) -> None:
    teacher = make(store, "teacher")
    logits = Stage("logits", "logits", {"kind": "teacher_logits"}, 1, {"teacher": "teacher"})
    student = make(store, "student", "teacher", "logits")
    new = Stage("new", "new seed 1", {}, 1, {"teacher": "teacher", "logits": "logits"})
    assert to_run([teacher, logits, student], store) == []
    assert to_run([teacher, logits, student, new], store) == [logits, new]


def test_a_freed_teacher_is_not_made_again_for_what_no_student_will_ask(store: Store) -> None:
    teacher = make(store, "teacher")
    store.folder("teacher").free_folder("model")
    logits = Stage("logits", "logits", {"kind": "teacher_logits"}, 1, {"teacher": "teacher"})
    student = make(store, "student", "teacher", "logits")
    assert to_run([teacher, logits, student], store) == []
    new = Stage("new", "new seed 1", {}, 1, {"teacher": "teacher", "logits": "logits"})
    assert to_run([teacher, logits, student, new], store) == [teacher, logits, new]


def test_what_a_freed_model_was_made_from_is_made_again_too(store: Store) -> None:
    chain = [make(store, "top"), make(store, "mid", "top"), make(store, "aside")]
    for name in ("top", "mid", "aside"):
        store.folder(name).free_folder("model")
    new = Stage("new", "new seed 1", {}, 1, {"start": "mid"})
    assert to_run([*chain, new], store) == [*chain[:2], new]


def test_a_request_that_has_nothing_in_the_store_is_told_so_first(
    store: Store, monkeypatch, capsys
) -> None:
    make(store, "dense")
    make(store, "theirs", "dense")
    mine = {"id": "t0/sst2/bert_base/obert/2of4", "table": 0, "seed": 1, "sparsity": 0.5}
    mine |= {"task": "sst2", "model": "bert_base", "method": "obert", "stages": ["theirs"]}
    store.write_cell(mine | {"settings": ["preset=small", "schedule=oneshot"]})
    elsewhere = Stage("elsewhere", "elsewhere seed 1", {}, 1, {})
    told = ask(plan_of([elsewhere], {"elsewhere"}), store, monkeypatch, capsys, confirm=False)
    gc.show(told, False)
    warning, *rest = capsys.readouterr().out.splitlines()
    assert warning.startswith("warning: none of the 2 stages in") and any(
        "dense" in r for r in rest
    )
    assert "task=sst2 model=bert_base method=obert sparsity=2of4 sparsity.level=0.5" in warning
    assert warning.endswith("preset=small schedule=oneshot 'seeds=[1]'")
    dense = Stage("dense", "dense seed 1", {}, 1, {})
    told = ask(plan_of([dense], {"dense"}), store, monkeypatch, capsys, confirm=False)
    gc.show(told, False)
    assert "warning" not in capsys.readouterr().out
