"""Stages from recipe to result: what they start from and what they leave on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_bert import CONFIG
from tiny_stage import Notes, masks, one_shot, run, runtime, stage, weights

from obert_sweeps.schema import Stage
from obert_sweeps.store import StageFolder, Store
from obert_sweeps.trial import going_on, run_stage

STILL = {**CONFIG, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def test_a_stage_leaves_what_the_interface_promises(tmp_path: Path) -> None:
    told = {"_target_": "tiny_stage.Notes"}
    allowed = ["tiny_bert", "tiny_stage"]
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
    last = Store(str(tmp_path)).folder("dense").records()[-1]
    assert result["started"] < last["time"] <= result["finished"]
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
    with Store(str(tmp_path)).folder("dense").new_checkpoint(4) as part:
        (part / "state.safetensors").write_bytes(b"of a try that was killed")
    again = run(tmp_path, stage("dense"), again=True)  # from the beginning
    assert again["metrics"] == first["metrics"]
    after = (tmp_path / "stages/dense/metrics.jsonl").read_text()
    assert after != before and len(after.splitlines()) == len(before.splitlines())
    for again in (False, True):
        run(tmp_path, one_shot(), again=again)
        assert [r["step"] for r in Store(str(tmp_path)).folder("pruned").records()] == [0]


def test_a_stage_that_other_code_began_says_both(tmp_path: Path) -> None:
    """Else its result would pass for one of the code that only ended it."""
    folder = Store(str(tmp_path)).folder("one")

    def began(code: str) -> str:
        """As an attempt writes it down; what is then noted."""
        spec = Stage.from_dict(stage("one") | {"notes": {"method_code": code}})
        folder.write_json("stage.json", going_on(spec, folder).as_dict())
        return folder.read_json("stage.json")["notes"]["method_code"]  # type: ignore[index]

    assert [began("old"), began("new")] == ["old", "new"]  # nothing was done in between
    with folder.new_checkpoint(1) as part:
        (part / "state").write_text("")
    assert [began("new"), began("newer"), began("newer")] == [
        "new", "new, then newer", "new, then newer",
    ]  # fmt: skip


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


def test_the_order_of_rows_is_the_seeds_too(tmp_path: Path) -> None:
    """The same start and no dropout: nothing else is drawn."""
    for name, seed in (("one", 3), ("other", 4)):
        spec = stage("dense")
        spec["recipe"]["model"]["config"] = STILL
        run(tmp_path / name, spec)
        run(tmp_path / name, {**stage("child", {"start": "dense"}), "seed": seed})
    one, other = (weights(tmp_path / name, "child") for name in ("one", "other"))
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])


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
    locked = stage("locked", {"start": "dense", "masks": "lighter"}, lock_pattern=True, **still)
    run(tmp_path, locked)  # the dense weights have no pattern to lock
    assert all(torch.equal(mask, lighter[k]) for k, mask in masks(tmp_path, "locked").items())
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
    for name, rows in (("a", None), ("b", 3)):
        spec = stage("dense", task={"head": "mlm"})
        spec["recipe"]["model"]["config"] = STILL
        run(tmp_path / name, spec, micro_batch=rows)
    a, b = weights(tmp_path / "a", "dense"), weights(tmp_path / "b", "dense")
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=2e-2, atol=2e-3)


def test_a_result_stands_though_its_checkpoints_cannot_be_cleaned_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: StageFolder) -> None:
        raise PermissionError(13, "Permission denied", folder.where("checkpoint-3"))

    monkeypatch.setattr(StageFolder, "drop_checkpoints", refuse)
    run(tmp_path, stage("dense"), checkpoint_seconds=0.0)
    folder = Store(str(tmp_path)).folder("dense")
    assert folder.read_json("failure.json") is None and folder.checkpoints()
