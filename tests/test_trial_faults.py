"""Interruptions, failures, divergence, and recipes that are not to be trusted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_bert
import torch
import yaml
from tiny_bert import Stopping
from tiny_stage import MAGNITUDE, Notes, masks, one_shot, run, runtime, stage, weights

from obert_sweeps.make import make
from obert_sweeps.method.base import Method
from obert_sweeps.method.magnitude import Magnitude
from obert_sweeps.model.bert import Bert
from obert_sweeps.schema import Interrupted, RequestError
from obert_sweeps.store import Lease, Store
from obert_sweeps.task.base import Task
from obert_sweeps.trial import KINDS, run_stage


@pytest.fixture(autouse=True)
def not_stopping() -> Iterator[None]:
    Stopping.stop_after = None
    yield
    Stopping.stop_after = None


def gradual(parents: dict[str, str], method: str = "tiny_bert.Stopping") -> dict[str, Any]:
    return stage(
        "gradual",
        parents,
        method={"_target_": method, "scope": "global"},
        sparsity={"pattern": "unstructured", "level": 0.7},
        task={"head": "mlm"},
        epochs=3,
        keep="best",
        evaluate_every=0.5,
        pruning={"start": 0.5, "end": 1.5, "every": 0.5, "initial": 0.3},
        distill={"hardness": 0.5, "temperature": 2.0},
        learning_rate=[{"until": 3, "initial": 0.01, "final": 0.001, "every": 0.5}],
    )


@pytest.mark.parametrize("steps_a_life", [2, 3])
@pytest.mark.parametrize("checkpoint_seconds", [0.0, 1e9])
def test_an_interrupted_stage_ends_as_an_undisturbed_one(
    tmp_path: Path, steps_a_life: int, checkpoint_seconds: float
) -> None:
    """With dropout, MLM masks, momentum, pruning, distillation and keep=best, killed at any step.

    Without checkpoints it begins anew each time, so it is stopped but once.
    """
    results, lives = {}, 0
    for name in ("whole", "broken"):
        store = tmp_path / name
        run(store, stage("teacher", task={"head": "mlm"}))
        parents = {"start": "teacher", "teacher": "teacher"}
        while True:
            may_stop = name == "broken" and (lives == 0 or not checkpoint_seconds)
            Stopping.stop_after = steps_a_life if may_stop else None
            how = runtime(store, checkpoint_seconds=checkpoint_seconds, log_seconds=1e9)
            try:
                assert run_stage(gradual(parents), how)["status"] == "done"
                break
            except Interrupted:
                lives += 1
                torch.rand(lives)  # whoever uses this process next has random states of their own
        results[name] = Store(str(store)).result("gradual")
    # A step that is cut short is taken again, so a life of n steps gets n - 1 further.
    assert lives == (1 if checkpoint_seconds else {2: 8, 3: 4}[steps_a_life])
    whole, broken = weights(tmp_path / "whole", "gradual"), weights(tmp_path / "broken", "gradual")
    assert all(torch.equal(whole[k], broken[k]) for k in whole)
    a, b = masks(tmp_path / "whole", "gradual"), masks(tmp_path / "broken", "gradual")
    assert all(torch.equal(a[k], b[k]) for k in a)
    for key in ("metrics", "final_metrics", "best_epoch", "sparsity", "steps", "status"):
        assert results["whole"][key] == results["broken"][key]  # type: ignore[index]
    histories = [
        [
            {k: r[k] for k in ("step", "epoch", "metrics")}
            for r in Store(str(tmp_path / name)).folder("gradual").records()
            if "metrics" in r
        ]
        for name in ("whole", "broken")
    ]
    assert histories[0] == histories[1] and len(histories[0]) == 6
    assert not list((tmp_path / "broken/stages/gradual").glob("checkpoint-*"))


def test_a_failure_is_told_in_one_line_and_gone_after_success(tmp_path: Path) -> None:
    spec = stage("dense", task={"max_length": 25})
    outcome = run_stage(spec, runtime(tmp_path))
    folder = tmp_path / "stages/dense"
    failure = json.loads((folder / "failure.json").read_text())
    assert outcome == {"id": "dense", "status": "failed", "reason": failure["reason"]}
    assert "task.max_length" in failure["reason"] and "\n" not in failure["reason"]
    assert failure["where"].startswith("obert_sweeps/train/start.py:")
    assert "Traceback" in (folder / "log.txt").read_text()
    assert not (folder / "result.json").exists() and not (folder / "model").exists()
    run(tmp_path, stage("dense"))
    assert not (folder / "failure.json").exists()


def test_a_dense_model_that_fails_the_tasks_check_is_not_built_upon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, stage("before"))
    monkeypatch.setattr(
        tiny_bert.Toy, "check", lambda self, m: f"accuracy {m['accuracy']:g}", raising=False
    )
    outcome = run_stage(stage("dense"), runtime(tmp_path))
    assert outcome["status"] == "failed" and outcome["reason"].startswith("accuracy ")
    assert not (tmp_path / "stages/dense/model").exists()
    run(tmp_path, one_shot(start="before"))  # what pruning leaves is a result, however bad


def test_a_language_model_whose_loss_is_undefined_is_not_built_upon(
    tmp_path: Path, project_root: Path
) -> None:
    """Each word is a line of its own, so the tokenizer knows none of those held out."""
    words = [f"{letter}word" for letter in "abcdefghijklmnopqrstuvwxyz"]
    pq.write_table(pa.table({"text": words}), tmp_path / "train.parquet")
    corpus = [{"data": "texts", "folder": str(tmp_path), "text_columns": ["text"]}]
    leaf = yaml.safe_load((project_root / "conf/task/mlm.yaml").read_text())
    spec = stage("dense")
    spec["recipe"]["task"] = {**leaf, "source": "folder", "corpus": corpus, "max_length": 16}
    outcome = run_stage(spec, runtime(tmp_path))
    assert outcome["status"] == "failed"
    assert "no token of the held-out text of mlm can be predicted" in outcome["reason"]
    assert not (tmp_path / "stages/dense/model").exists()


def test_divergence_is_a_result_and_what_starts_from_it_inherits_it(tmp_path: Path) -> None:
    wild = [{"until": 2, "initial": 1e30, "final": 1e30}]
    outcome = run_stage(stage("wild", learning_rate=wild), runtime(tmp_path))
    assert outcome["status"] == "not_converged" and "not finite" in outcome["reason"]
    result = Store(str(tmp_path)).result("wild")
    assert result is not None and result["metrics"] == {"accuracy": None, "loss": None}
    assert result["evidence"]["reason"] == outcome["reason"]
    again = run_stage(stage("wild", learning_rate=wild), runtime(tmp_path))
    assert again == outcome
    run(tmp_path, stage("dense"))
    masked = {"start": "dense", "masks": "wild"}
    heirs = (("child", "wild", {"start": "wild"}), ("grandchild", "child", {"start": "child"}))
    for name, parent, parents in (*heirs, ("masked", "wild", masked)):
        heir = run_stage(stage(name, parents), runtime(tmp_path))
        assert heir["status"] == "not_converged" and "not finite" in heir["reason"]
        result = Store(str(tmp_path)).result(name)
        assert result is not None and result["evidence"]["stage"] == parent
    late = Store(str(tmp_path)).folder("dense")  # as if it had diverged after its best epoch
    late.write_json("result.json", (late.result() or {}) | {"status": "not_converged"})
    assert run_stage(stage("on", {"start": "dense"}), runtime(tmp_path))["status"] == "done"
    taught = stage("taught", {"teacher": "wild"}, distill={"hardness": 1.0, "temperature": 2.0})
    outcome = run_stage(taught, runtime(tmp_path))
    assert outcome["status"] == "failed" and "not finite" in outcome["reason"]


def test_an_undefined_metric_is_no_convergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undefined = {"accuracy": 50.0, "loss": float("nan")}
    monkeypatch.setattr(tiny_bert.Toy, "score", lambda *_: undefined)
    outcome = run_stage(stage("dense"), runtime(tmp_path))
    assert outcome["status"] == "not_converged" and "loss" in outcome["reason"]
    result = Store(str(tmp_path)).result("dense")
    assert result is not None and result["metrics"] == {"accuracy": 50.0, "loss": None}
    json.loads((tmp_path / "stages/dense/metrics.jsonl").read_text().splitlines()[-1])


def test_a_parent_must_be_whole(tmp_path: Path) -> None:
    outcome = run_stage(one_shot(), runtime(tmp_path))
    assert outcome["status"] == "failed" and "has no result yet" in outcome["reason"]
    run(tmp_path, stage("dense"))
    file = tmp_path / "stages/dense/model/model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    outcome = run_stage(one_shot(), runtime(tmp_path))
    assert outcome["status"] == "failed" and "damaged" in outcome["reason"]


def test_a_stage_in_other_hands_is_held(tmp_path: Path) -> None:
    store = Store(str(tmp_path), beat_seconds=0.05)
    with store.folder("dense").lease("another"):
        outcome = run_stage(stage("dense"), runtime(tmp_path))
    assert outcome["status"] == "held" and "another" in outcome["reason"]
    assert run_stage(stage("dense"), runtime(tmp_path))["status"] == "done"


def test_what_another_finished_while_it_was_waited_for_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, take = Store(str(tmp_path)).folder("dense"), Lease.__enter__
    theirs = {"id": "dense", "status": "done", "metrics": {"by": "another driver"}}

    def late(lease: Lease) -> Lease:
        with folder.new_folder("model") as part:
            (part / "weights").write_text("theirs")
        folder.write_json("result.json", theirs)
        return take(lease)

    monkeypatch.setattr(Lease, "__enter__", late)
    assert run_stage(stage("dense"), runtime(tmp_path))["status"] == "done"
    assert folder.result() == theirs


def test_a_stage_that_was_taken_over_writes_nothing_more_and_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Store(str(tmp_path)).folder("dense")

    def overtaken(*_: Any) -> dict[str, Any]:
        (folder.path / "lease.9.json").write_text('{"owner": "another driver", "counter": 0}')
        return {"id": "dense", "status": "done", "metrics": {}}

    monkeypatch.setitem(KINDS, "train", overtaken)
    told = {"_target_": "tiny_stage.Notes"}
    how = runtime(tmp_path, tracker=told, allow_targets=["tiny_bert", "tiny_stage"])
    assert run_stage(stage("dense"), how)["status"] == "held"
    assert Notes.told[-1] == ("finish", {"status": "interrupted"})
    assert folder.result() is None and folder.read_json("failure.json") is None


def test_an_interruption_is_passed_on_and_told_to_the_tracker(tmp_path: Path) -> None:
    Stopping.stop_after = 2
    spec = stage("dense", method={"_target_": "tiny_bert.Stopping"})
    how = runtime(
        tmp_path,
        tracker={"_target_": "tiny_stage.Notes"},
        allow_targets=["tiny_bert", "tiny_stage"],
    )
    with pytest.raises(Interrupted):
        run_stage(spec, how)
    assert Notes.told[-1][0] == "finish" and Notes.told[-1][1]["status"] == "interrupted"
    assert not (tmp_path / "stages/dense/failure.json").exists()
    assert Store(str(tmp_path)).folder("dense").lease_state() is None


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        ({"_target_": "os.system", "command": "true"}, "allow_targets=\\[os\\]"),
        ({"_target_": "obert_sweepsx.Dense"}, "allow_targets"),
        ({"_target_": "obert_sweeps.store.store.Path"}, "is no Method"),
        ({"_target_": "obert_sweeps.store.place.folder.shutil.rmtree"}, "cannot be found"),
        ({"_target_": "obert_sweeps.store.place.base.digest"}, "is no Method"),
        ({"_target_": "obert_sweeps.method.dense.Sparse"}, "cannot be found"),
        ({"_target_": "obert_sweeps.task.base.Task"}, "is no Method"),
        ({}, "allow_targets"),
        ({**MAGNITUDE, "scop": "global"}, "'scop'.* scope"),
    ],
)
def test_only_leaves_of_the_expected_kind_are_made(leaf: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make(leaf, [], Method)


def test_leaves_are_made_with_their_keys() -> None:
    made = make({**MAGNITUDE, "scope": "tensor"}, [], Method)
    assert isinstance(made, Magnitude) and made.scope == "tensor"
    with pytest.raises(RequestError, match="allow_targets"):
        make({"_target_": "tiny_bert.Toy"}, [], Task)  # type: ignore[type-abstract]
    toy = make({"_target_": "tiny_bert.Toy", "rows": 7}, ["tiny_bert"], Task)  # type: ignore[type-abstract]
    assert toy.rows == 7  # type: ignore[attr-defined]
    assert make({"_target_": "obert_sweeps.model.bert.Bert", "name": "x", "hub": "y"}, [], Bert)


def test_a_kind_that_is_not_known_is_refused(tmp_path: Path) -> None:
    spec = stage("dense")
    spec["recipe"]["kind"] = "exprot"
    outcome = run_stage(spec, runtime(tmp_path))
    assert outcome["status"] == "failed"
    assert "'exprot'" in outcome["reason"] and "benchmark" in outcome["reason"]
