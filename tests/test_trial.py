"""Stages from recipe to result: parents, interruptions, failures, and what is left on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import tiny_bert
import torch
from safetensors.torch import load_file
from tiny_bert import CONFIG, Stopping

from obert_sweeps.method.base import Method
from obert_sweeps.method.magnitude import Magnitude
from obert_sweeps.model.bert import Bert
from obert_sweeps.schema import Interrupted, Runtime, Stage, StageError
from obert_sweeps.store import Store
from obert_sweeps.task.base import Task
from obert_sweeps.tracker.base import Tracker
from obert_sweeps.train.start import training_of
from obert_sweeps.trial import make, run_stage

TRAINING = {
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": [{"until": 2, "initial": 0.01, "final": 0.0}],
}
ONE_SHOT = {"epochs": 0, "learning_rate": [], "pruning": {"start": 0, "end": 0}}
MAGNITUDE = {"_target_": "obert_sweeps.method.magnitude.Magnitude", "scope": "global"}


@pytest.fixture(autouse=True)
def not_stopping() -> Iterator[None]:
    Stopping.stop_after = None
    yield
    Stopping.stop_after = None


class Notes(Tracker):
    """Keeps what it is told."""

    told: list[tuple[str, Any]] = []

    def start(self, stage: Stage, store: str) -> None:
        Notes.told = [("start", stage.id)]

    def log(self, record: dict[str, Any]) -> None:
        Notes.told.append(("log", record))

    def finish(self, result: dict[str, Any]) -> None:
        Notes.told.append(("finish", result))


def stage(name: str, parents: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    recipe = {
        "kind": "train",
        "task": {"_target_": "tiny_bert.Toy", "rows": 24, **changes.pop("task", {})},
        "model": {
            "_target_": "obert_sweeps.model.bert.Bert",
            "name": "tiny",
            "from_config": True,
            "config": CONFIG,
        },
        "method": changes.pop("method", {"_target_": "obert_sweeps.method.dense.Dense"}),
        "sparsity": changes.pop("sparsity", {"pattern": "dense", "level": 0.0}),
        "training": {**TRAINING, **changes},
    }
    return Stage(id=name, name=name, recipe=recipe, seed=3, parents=parents or {}).as_dict()


def runtime(store: Path, **changes: Any) -> dict[str, Any]:
    return asdict(Runtime(**{"store": str(store), "allow_targets": ["tiny_bert"], **changes}))


def run(store: Path, spec: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Run a stage that must end well; its result."""
    outcome = run_stage(spec, runtime(store, **changes))
    assert outcome == {"id": spec["id"], "status": "done", "reason": None}
    return Store(str(store)).result(spec["id"])  # type: ignore[return-value]


def weights(store: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(store / f"stages/{name}/model/model.safetensors")


def masks(store: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(store / f"stages/{name}/model/masks.safetensors")


def one_shot(name: str = "pruned", level: float = 0.6, start: str = "dense") -> dict[str, Any]:
    sparsity = {"pattern": "unstructured", "level": level}
    return stage(name, {"start": start}, method=MAGNITUDE, sparsity=sparsity, **ONE_SHOT)


def test_a_stage_leaves_what_the_interface_promises(tmp_path: Path) -> None:
    told = {"_target_": "test_trial.Notes"}
    allowed = ["tiny_bert", "test_trial"]
    result = run(tmp_path, stage("dense"), tracker=told, allow_targets=allowed)
    folder = tmp_path / "stages/dense"
    assert json.loads((folder / "result.json").read_text()) == result
    assert json.loads((folder / "stage.json").read_text()) == stage("dense")
    assert {"config.json", "tokenizer.json", "model.safetensors", "manifest.json"} <= {
        p.name for p in (folder / "model").iterdir()
    }
    assert not list(folder.glob("checkpoint-*")) and not (folder / "failure.json").exists()
    assert result["metrics"] == result["final_metrics"] and set(result["metrics"]) == {
        "accuracy",
        "loss",
    }
    assert result["status"] == "done" and result["steps"] == 6
    assert result["sparsity"]["overall"] == 0.0 and len(result["sparsity"]["layers"]) == 12
    assert set(result["cost"]) == {"seconds", "cpu_seconds", "gpu_seconds"}
    assert 0 < result["rates"]["samples_per_second"] < result["rates"]["tokens_per_second"]
    assert 0 < result["rates"]["padding_share"] < 1
    assert {"python", "torch", "transformers", "host", "cpu", "gpu"} <= set(result["environment"])
    records = Store(str(tmp_path)).folder("dense").records()
    assert Notes.told == [
        ("start", "dense"),
        *[("log", record) for record in records],
        ("finish", result),
    ]
    assert [r["step"] for r in records if "metrics" in r] == [3, 6]


def test_a_finished_stage_is_not_run_again_unless_told(tmp_path: Path) -> None:
    first = run(tmp_path, stage("dense"))
    assert run(tmp_path, stage("dense")) == first
    before = (tmp_path / "stages/dense/metrics.jsonl").read_text()
    again = run(tmp_path, stage("dense"), again=True)
    assert again["metrics"] == first["metrics"]
    after = (tmp_path / "stages/dense/metrics.jsonl").read_text()
    assert after != before and len(after.splitlines()) == len(before.splitlines())


def test_replay_writes_elsewhere_and_reads_parents_from_the_store(tmp_path: Path) -> None:
    run(tmp_path / "store", stage("dense"))
    outcome = run_stage(
        one_shot(), runtime(tmp_path / "store", output=str(tmp_path / "replay"), again=True)
    )
    assert outcome["status"] == "done"
    assert not (tmp_path / "store/stages/pruned").exists()
    assert masks(tmp_path / "replay", "pruned")


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(tmp_path / name, stage("dense"))
    other = {**stage("dense"), "seed": 4}
    run(tmp_path / "c", other)
    a, b, c = (weights(tmp_path / name, "dense") for name in "abc")
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["classifier.weight"], c["classifier.weight"])


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


def test_one_shot_masks_hold_through_dense_training_and_a_new_head(tmp_path: Path) -> None:
    run(tmp_path, stage("dense"))
    pruned = run(tmp_path, one_shot())
    assert pruned["sparsity"]["overall"] == pytest.approx(0.6, abs=1e-4)
    assert pruned["rates"] == {} and pruned["steps"] == 0
    run(tmp_path, stage("recovered", {"start": "pruned"}))
    run(tmp_path, stage("transferred", {"start": "pruned"}, task={"head": "span"}))
    for name in ("recovered", "transferred"):
        held, found = masks(tmp_path, name), weights(tmp_path, name)
        assert held.keys() == masks(tmp_path, "pruned").keys()
        for layer, keep in masks(tmp_path, "pruned").items():
            assert torch.equal(held[layer], keep)
            assert bool((found[f"{layer}.weight"][~keep] == 0).all())
            assert bool((found[f"{layer}.weight"][keep] != 0).all())
    first = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(
        weights(tmp_path, "pruned")[first], weights(tmp_path, "recovered")[first]
    )


def test_masks_of_another_stage_go_onto_the_starting_weights(tmp_path: Path) -> None:
    """A lottery round: masks of a trained model, weights of the one before training."""
    run(tmp_path, stage("dense"))
    run(tmp_path, stage("trained", {"start": "dense"}))
    run(tmp_path, one_shot(start="trained"))
    parents = {"start": "dense", "masks": "pruned"}
    run(tmp_path, stage("ticket", parents, epochs=0, learning_rate=[]))
    ticket, dense = weights(tmp_path, "ticket"), weights(tmp_path, "dense")
    keep = masks(tmp_path, "pruned")
    for name, tensor in dense.items():
        mask = keep.get(name.removesuffix(".weight"))
        assert torch.equal(ticket[name], tensor if mask is None else tensor * mask)
    still = {"epochs": 0, "learning_rate": []}
    again = run(tmp_path, stage("again", {"start": "ticket"}, **still))
    first = Store(str(tmp_path)).result("ticket")
    assert first is not None and first["metrics"] == again["metrics"]  # masked when evaluated
    run(tmp_path, one_shot("lighter", 0.3, start="trained"))
    run(tmp_path, stage("other", {"start": "pruned", "masks": "lighter"}, **still))
    lighter = masks(tmp_path, "lighter")
    assert all(torch.equal(mask, lighter[k]) for k, mask in masks(tmp_path, "other").items())
    refused = stage("x", {"start": "dense", "masks": "dense"})
    outcome = run_stage(refused, runtime(tmp_path))
    assert outcome["status"] == "failed" and "pruned nothing" in outcome["reason"]


def test_lock_pattern_takes_the_zeros_of_the_weights(tmp_path: Path) -> None:
    run(tmp_path, stage("dense"))
    run(tmp_path, one_shot())
    (tmp_path / "stages/pruned/model/masks.safetensors").unlink()
    manifest = tmp_path / "stages/pruned/model/manifest.json"
    content = json.loads(manifest.read_text())
    del content["masks.safetensors"]
    manifest.write_text(json.dumps(content))
    free = run(tmp_path, stage("free", {"start": "pruned"}))
    locked = run(tmp_path, stage("locked", {"start": "pruned"}, lock_pattern=True))
    assert free["sparsity"]["overall"] < 0.01
    assert locked["sparsity"]["overall"] == pytest.approx(0.6, abs=1e-4)


def test_dropping_layers_takes_their_masks_away(tmp_path: Path) -> None:
    run(tmp_path, stage("dense"))
    run(tmp_path, one_shot())
    run(tmp_path, stage("short", {"start": "pruned"}, keep_layers=1))
    kept = masks(tmp_path, "short")
    assert len(kept) == 6
    assert all(torch.equal(kept[k], masks(tmp_path, "pruned")[k]) for k in kept)
    result = run(tmp_path, stage("after", {"start": "short"}))
    assert len(result["sparsity"]["layers"]) == 6


def test_reset_head_draws_a_new_one(tmp_path: Path) -> None:
    run(tmp_path, stage("dense"))
    still = {"epochs": 0, "learning_rate": []}
    run(tmp_path, stage("kept", {"start": "dense"}, **still))
    run(tmp_path, stage("reset", {"start": "dense"}, reset_head=True, **still))
    dense, kept, reset = (weights(tmp_path, name) for name in ("dense", "kept", "reset"))
    assert all(torch.equal(dense[k], kept[k]) for k in dense)
    assert {k for k in dense if not torch.equal(dense[k], reset[k])} == {
        "classifier.weight",
        "classifier.bias",
    }


def test_a_teacher_without_the_tasks_head_is_refused(tmp_path: Path) -> None:
    run(tmp_path, stage("span", task={"head": "span"}))
    student = stage(
        "student",
        {"start": "span", "teacher": "span"},
        distill={"hardness": 1.0, "temperature": 2.0},
    )
    outcome = run_stage(student, runtime(tmp_path))
    assert outcome["status"] == "failed" and "classifier" in outcome["reason"]


def test_effective_batch_does_not_depend_on_the_micro_batch(tmp_path: Path) -> None:
    still = {**CONFIG, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    for name, rows in (("a", None), ("b", 3)):
        spec = stage("dense", task={"head": "mlm"})
        spec["recipe"]["model"]["config"] = still
        run(tmp_path / name, spec, micro_batch=rows)
    a, b = weights(tmp_path / "a", "dense"), weights(tmp_path / "b", "dense")
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=2e-2, atol=2e-3)


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
    monkeypatch.setattr(
        tiny_bert.Toy, "check", lambda self, m: f"accuracy {m['accuracy']:g}", raising=False
    )
    outcome = run_stage(stage("dense"), runtime(tmp_path))
    assert outcome["status"] == "failed" and outcome["reason"].startswith("accuracy ")
    assert not (tmp_path / "stages/dense/model").exists()


def test_divergence_is_a_result_and_nothing_starts_from_it(tmp_path: Path) -> None:
    wild = [{"until": 2, "initial": 1e30, "final": 1e30}]
    outcome = run_stage(stage("wild", learning_rate=wild), runtime(tmp_path))
    assert outcome["status"] == "not_converged" and "not finite" in outcome["reason"]
    result = Store(str(tmp_path)).result("wild")
    assert result is not None and result["metrics"] == {"accuracy": None, "loss": None}
    assert result["evidence"]["reason"] == outcome["reason"]
    again = run_stage(stage("wild", learning_rate=wild), runtime(tmp_path))
    assert again == outcome
    child = run_stage(stage("child", {"start": "wild"}), runtime(tmp_path))
    assert child["status"] == "failed" and "not finite" in child["reason"]


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


def test_an_interruption_is_passed_on_and_told_to_the_tracker(tmp_path: Path) -> None:
    Stopping.stop_after = 2
    spec = stage("dense", method={"_target_": "tiny_bert.Stopping"})
    how = runtime(
        tmp_path,
        tracker={"_target_": "test_trial.Notes"},
        allow_targets=["tiny_bert", "test_trial"],
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
        ({"_target_": "obert_sweeps.store.Path"}, "is no Method"),
        ({"_target_": "obert_sweeps.store.shutil.rmtree"}, "cannot be found"),
        ({"_target_": "obert_sweeps.store.write_json"}, "is no Method"),
        ({"_target_": "obert_sweeps.method.dense.Sparse"}, "cannot be found"),
        ({"_target_": "obert_sweeps.task.base.Task"}, "is no Method"),
        ({}, "allow_targets"),
        ({**MAGNITUDE, "scop": "global"}, "'scop'.* scope"),
    ],
)
def test_only_leaves_of_the_expected_kind_are_made(leaf: dict[str, Any], message: str) -> None:
    with pytest.raises(StageError, match=message):
        make(leaf, [], Method)


def test_leaves_are_made_with_their_keys() -> None:
    made = make({**MAGNITUDE, "scope": "tensor"}, [], Method)
    assert isinstance(made, Magnitude) and made.scope == "tensor"
    with pytest.raises(StageError, match="allow_targets"):
        make({"_target_": "tiny_bert.Toy"}, [], Task)  # type: ignore[type-abstract]
    toy = make({"_target_": "tiny_bert.Toy", "rows": 7}, ["tiny_bert"], Task)  # type: ignore[type-abstract]
    assert toy.rows == 7  # type: ignore[attr-defined]
    assert make({"_target_": "obert_sweeps.model.bert.Bert", "name": "x", "hub": "y"}, [], Bert)


def test_a_recipes_training_becomes_the_schema() -> None:
    data = {
        **TRAINING,
        "pruning": {"start": 0, "end": 1, "every": None, "initial": 0.5},
        "distill": {"hardness": 1.0, "temperature": 2.0},
    }
    training = training_of(data)
    assert training.learning_rate[0].initial == 0.01
    assert training.pruning is not None and training.pruning.initial == 0.5
    assert training.distill is not None and training.distill.temperature == 2.0
    for wrong in ({"epoch": 1}, {"pruning": {"begin": 0}}, {"keep": "first"}):
        with pytest.raises(StageError):
            training_of({**TRAINING, **wrong})


def test_kinds_that_are_not_training_are_refused(tmp_path: Path) -> None:
    spec = stage("dense")
    spec["recipe"]["kind"] = "export"
    outcome = run_stage(spec, runtime(tmp_path))
    assert outcome["status"] == "failed" and "'export'" in outcome["reason"]
