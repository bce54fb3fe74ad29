"""`status`: what stands in the store, in words and numbers."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from obert_sweeps.cli.verb.status import EVALUATIONS, describe, one_stage
from obert_sweeps.cli.verb.status_view import FEW, LISTED, show, show_stage, summary
from obert_sweeps.schema import Stage
from obert_sweeps.store import Store


def stage(name, parents=(), seconds=10.0):
    recipe = {"training": {"batch_size": 32}}
    tags = {"role": name.split("-")[0]}
    starts = {f"start{i}": p for i, p in enumerate(parents)}
    return Stage(name, f"{name} seed 1", recipe, 1, starts, tags=tags, cost={"seconds": seconds})


def plan_of(stages, blocked=None):
    cells = [
        SimpleNamespace(
            cell=SimpleNamespace(id=f"t5/{s.id}"),
            stages=[*s.parents.values(), s.id],
            blocked=None,
            finals={},
        )
        for s in stages
    ]
    cells += [
        SimpleNamespace(
            cell=SimpleNamespace(id=f"t4/{k}"), stages=[], blocked="no data: say x", finals={}
        )
        for k in range(blocked or 0)
    ]
    return SimpleNamespace(wanted=lambda: stages, selected=lambda: cells)


def finish(store, name, seconds):
    content = {"id": name, "status": "done", "metrics": {"f1": 88.5}, "cost": {"seconds": seconds}}
    store.folder(name).write_json("result.json", content)


def screen(document):
    out = io.StringIO()
    show(document, Console(file=out, width=200))
    return out.getvalue()


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


def test_each_state_with_its_reason(store):
    stages = [
        stage("dense"),
        stage("prune", ["dense"]),
        stage("broken", ["dense"]),
        stage("after", ["broken"]),
        stage("later", ["prune"]),
    ]
    finish(store, "dense", 20.0)
    store.folder("broken").write_json("failure.json", {"reason": "no such column"})
    record = {"step": 40, "steps": 100, "epoch": 0.8, "epochs": 2.0, "samples_per_second": 64.0}
    with store.folder("prune").lease("me"):
        store.folder("prune").append(record)
        document = describe(plan_of(stages), store)
    states = {row["id"]: row["state"] for row in document["stages"]}
    assert states == {
        "dense": "done", "prune": "running", "broken": "failed", "after": "blocked",
        "later": "waiting",
    }  # fmt: skip
    running = next(row for row in document["stages"] if row["id"] == "prune")
    assert running["seconds_left"] == 60 * 32 / 64  # steps left, rows a step, rows a second
    # dense took twice what was planned: later's 10 s are 20, and prune says itself what is left.
    assert document["seconds_left"] == 30 + 20
    text = screen(document)
    (line,) = [line for line in text.splitlines() if "running" in line and "epoch" in line]
    assert line.rstrip().endswith("epoch 0.8 of 2, 64 samples/s, 30 s left, me")
    (failed,) = [line for line in text.splitlines() if line.startswith("failed")]
    assert "no such column" in failed and str(store.folder("broken").path / "log.txt") in failed
    assert "parent broken failed" in text
    assert "1/5 stages done, 1 running, 1 failed, 1 blocked, 1 waiting" in text
    assert "1/5 cells complete; about 50 s of work left" in text


def test_what_a_teacher_would_have_said_to_finished_students_is_not_waited_for(store):
    """They asked it at each step (cluster.teacher_logits=each_step), or gc freed what it said."""
    said = stage("teacher_logits", ["dense"])
    said.recipe = {"kind": "teacher_logits"}
    stages = [stage("dense"), said, stage("student", ["dense", "teacher_logits"])]
    finish(store, "dense", 20.0)
    unfinished = describe(plan_of(stages), store)
    assert unfinished["counts"] == {"done": 1, "waiting": 2}
    finish(store, "student", 20.0)
    document = describe(plan_of(stages), store)
    assert document["counts"] == {"done": 2} and not document["seconds_left"]
    (student,) = (cell for cell in document["cells"] if cell["id"] == "t5/student")
    assert student["state"] == "done" and "waiting" not in screen(document)


def test_a_finished_stage_whose_model_is_made_again_is_told_with_the_work_it_is(store):
    stages = [stage("dense"), stage("old", ["dense"]), stage("new", ["dense"])]
    for name in ("dense", "old"):
        finish(store, name, 20.0)
        with store.folder(name).new_folder("model") as part:
            (part / "weights").write_bytes(b"w")
        store.folder(name).free_folder("model")
    document = describe(plan_of(stages), store)
    assert document["counts"] == {"done": 2, "waiting": 1}
    assert document["seconds_left"] == 20 + 20  # dense once more, and new
    told = {line.split()[0]: line for line in screen(document).splitlines() if "f1 88.50" in line}
    assert "made again" in told["dense"] and "made again" not in told["old"]


def test_before_anything_is_finished_no_time_is_promised(store):
    document = describe(plan_of([stage("dense")]), store)
    assert document["seconds_left"] is None and "left" not in summary(document)


def test_a_long_plan_is_told_by_kind(store):
    stages = [stage(f"dense-{k}") for k in range(LISTED)] + [stage("prune-0")]
    stages += [stage(f"round_{k}") for k in range(3)]
    for k in range(3):
        finish(store, f"dense-{k}", 1.0)
    store.folder("prune-0").write_json("failure.json", {"reason": "too large"})
    text = screen(describe(plan_of(stages), store))
    assert "dense-7" not in text and "prune-0 seed 1: too large" in text
    (line,) = [line for line in text.splitlines() if line.strip().startswith("dense")]
    assert line.split() == ["dense", "3", str(LISTED - 3)]
    (line,) = [line for line in text.splitlines() if line.strip().startswith("round")]
    assert line.split() == ["round", "3"]


def test_cells_with_one_reason_share_a_line(store):
    text = screen(describe(plan_of([stage("dense")], blocked=5), store))
    assert "blocked  t4/0, t4/1, t4/2 and 2 more: no data: say x" in text


def test_a_stage_is_told_by_its_course_and_a_short_recipe(store):
    folder = store.folder("dense")
    recipe = {"kind": "train", "training": {"epochs": 2.0, "patience": None, "distill": {"t": 5}}}
    folder.write_json("stage.json", {"name": "dense seed 1", "recipe": recipe})
    for step in range(1, 11):
        folder.append({"step": step, "epoch": step, "loss": 0.5 / step, "sparsity": 0.25})
        folder.append({"step": step, "epoch": step, "metrics": {"f1": 80.0 + step}})
    finish(store, "dense", 20.0)
    out = io.StringIO()
    show_stage(one_stage(store, "dense"), Console(file=out, width=200))
    lines = [line.split() for line in out.getvalue().splitlines()]
    first, last = (lines.index(next(w for w in lines if w[:1] == [n])) for n in ("3", "10"))
    assert lines[last] == ["10", "10", "0.05", "0.25", "90"] and last - first == EVALUATIONS - 1
    assert ["training", "epochs=2.0", "distill.t=5"] in lines[last:]
    assert "patience" not in out.getvalue()


def test_what_the_store_holds_of_other_requests_is_told(store):
    finish(store, "dense", 20.0)
    text = screen(describe(plan_of([stage("dense")]), store))
    assert "also in this store" not in text
    for k in range(FEW + 1):
        finish(store, f"mine-{k}", 20.0)
    cell = {"id": "t0/reviews/bert_base/obert/50", "table": 0, "seed": 42, "sparsity": 0.5}
    cell |= {"task": "reviews", "model": "bert_base", "method": "obert", "stages": ["mine-0"]}
    store.write_cell(cell | {"settings": ["schedule=oneshot"], "measured": {"accuracy": 78.5}})
    text = screen(describe(plan_of([stage("dense")]), store))
    assert f"also in this store: {FEW + 1} stages of other requests" in text
    assert "mine-1" not in text
    (line,) = [line for line in text.splitlines() if line.strip().startswith("mine-0")]
    assert "obert/50 schedule=oneshot seed 42" in line and "accuracy 78.50" in line
    asked = "task=reviews model=bert_base method=obert sparsity=unstructured sparsity.level=0.5"
    assert f"{asked} schedule=oneshot" in text


def test_a_record_of_before_settings_were_recorded_is_told_too(store):
    finish(store, "mine", 20.0)
    for k in range(FEW):
        finish(store, f"more-{k}", 20.0)
    cell = {"id": "t0/reviews/bert_base/dense", "table": 0, "seed": 42, "stages": ["mine"]}
    cell |= {"task": "reviews", "model": "bert_base", "method": "dense"}
    store.write_cell(cell | {"measured": {"accuracy": 78.5}})
    text = screen(describe(plan_of([stage("dense")]), store))
    assert "t0/reviews/bert_base/dense seed 42" in text
