"""Stages with two workers on a real Ray: one worker's results, and what is lost is made good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from faulty import pids
from plans import read_events, start_driver
from processes import processes_with, reap, wait_until
from tiny_bert import CONFIG
from tiny_stage import MAGNITUDE, ONE_SHOT, masks, run, stage, weights

from obert_sweeps.schema import Stage
from obert_sweeps.store import Store
from obert_sweeps.sweep.attempt import RUN_STAGE

OBERT = {
    "_target_": "obert_sweeps.method.obert.OBert",
    "num_grads": 16,
    "grad_batch_size": 4,
    "fisher_block_size": 8,
    "damp": 1e-6,
}
HALF = {"pattern": "unstructured", "level": 0.5}
GRADUAL = {"pruning": {"start": 0.5, "end": 1.5, "every": 0.5, "initial": 0.2}}
STILL = {**CONFIG, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def of_two(spec: dict[str, Any], config: dict[str, Any] = CONFIG) -> Stage:
    spec["recipe"]["model"]["config"] = config
    return Stage.from_dict({**spec, "workers": 2, "resources": {"cpu": 1.0, "gpu": 0.0}})


def run_plan(root: Path, plan: list[Stage], **runtime: Any) -> tuple[Any, Path]:
    events = root.parent / f"{root.name}-events"
    how = {"allow_targets": ["tiny_bert", "faulty"], **runtime}
    return start_driver(root, events, plan, RUN_STAGE, how, max_concurrent=1), events


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_workers_give_the_weights_and_masks_of_one(tmp_path: Path) -> None:
    dense = stage("dense", task={"head": "mlm"})
    plan = [
        dense,
        stage("gradual", {"start": "dense"}, method=MAGNITUDE, sparsity=HALF, **GRADUAL),
        stage("obs", {"start": "dense"}, method=OBERT, sparsity=HALF, **ONE_SHOT),
        stage("transfer", {"start": "gradual"}, task={"head": "regression"}),
    ]
    two = [of_two(spec, STILL) for spec in plan]
    driver, events = run_plan(tmp_path / "two", two)
    out, err = driver.communicate(timeout=550)
    assert (driver.returncode, out, err) == (0, "", "")
    assert {kind for kind, *_ in read_events(events)} == {"started", "finished"}
    for spec in two:
        alone = run(tmp_path / "one", spec.as_dict())
        result = Store(str(tmp_path / "two")).result(spec.id)
        assert result is not None and result["environment"]["workers"] == 2
        assert result["metrics"] == pytest.approx(alone["metrics"], rel=1e-3, abs=1e-3)
        assert result["steps"] == alone["steps"]
        ours, theirs = (weights(tmp_path / name, spec.id) for name in ("two", "one"))
        for name, expected in theirs.items():
            if not name.endswith("key.bias"):  # gradients zero but for rounding; Adam makes steps
                apart = float((ours[name] - expected).norm() / (expected.norm() + 0.1))
                assert apart < 1e-3, f"{spec.id} {name}: {apart}"
        if spec.id != "dense":
            ours, theirs = (masks(tmp_path / name, spec.id) for name in ("two", "one"))
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def faulty(name: str, root: Path, fault: str = "", rank: int = 1) -> Stage:
    leaf = {"_target_": "faulty.Faulty", "diary": str(root / name), "fault": fault, "rank": rank}
    return of_two(stage(name, method=leaf, sparsity=HALF, **GRADUAL))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_whichever_worker_is_lost_the_stage_ends_as_if_none_had_been(tmp_path: Path) -> None:
    plan = [
        faulty("calm", tmp_path),
        faulty("calm_again", tmp_path),
        faulty("helper_killed", tmp_path, "killed"),
        faulty("helper_hangs", tmp_path, "stopped"),
        faulty("first_killed", tmp_path, "killed", rank=0),
    ]
    driver, events = run_plan(tmp_path / "runs", plan, checkpoint_seconds=0.0, group_seconds=20.0)
    try:
        out, err = driver.communicate(timeout=550)
        assert (driver.returncode, out, err) == (0, "", "")
        wait_until(lambda: not processes_with(f"obert-{driver.pid}-"), 10)
    finally:
        reap(driver)
    told = read_events(events)
    assert {name for kind, name, *_ in told if kind == "finished"} == {s.id for s in plan}
    again = {name: reason for kind, name, _, reason in told if kind == "started" and reason}
    assert set(again) == {"helper_killed", "helper_hangs", "first_killed"}
    assert again["helper_killed"].startswith("worker 1 died")
    assert "worker 0 of 2 lost contact with another: " in again["helper_hangs"]
    assert again["first_killed"] == "its process died; started again (1 of 3)"

    calm = weights(tmp_path / "runs", "calm")  # with dropout, to the bit: nothing is drawn anew
    for name in again:
        found = weights(tmp_path / "runs", name)
        assert all(torch.equal(found[key], calm[key]) for key in calm)
        log = (tmp_path / f"runs/stages/{name}/log.txt").read_text()
        assert "going on from checkpoint-" in log
    kept, after = pids(tmp_path / "calm"), pids(tmp_path / "calm_again")
    assert kept == after and set(kept) == {0, 1}  # the same two processes
    for name in again:
        assert all(len(found) == 2 for found in pids(tmp_path / name).values())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_one_worker_refuses_ends_the_stage_at_once_with_its_reason(tmp_path: Path) -> None:
    plan = [
        faulty("helper", tmp_path, "refuses"),
        faulty("first", tmp_path, "refuses", rank=0),
        of_two(stage("both", task={"max_length": 25})),
        faulty("calm", tmp_path),
    ]
    driver, events = run_plan(tmp_path / "runs", plan, group_seconds=9999.0)  # nobody waits for it
    out, err = driver.communicate(timeout=550)
    assert (driver.returncode, out, err) == (0, "", "")
    ends = {name: (kind, reason) for kind, name, _, reason in read_events(events)}
    assert ends["helper"] == ("failed", "worker 1: this worker has no such file")
    assert ends["first"] == ("failed", "this worker has no such file")
    assert ends["both"][0] == "failed" and "task.max_length" in ends["both"][1]
    assert ends["calm"][0] == "finished"
    log = (tmp_path / "runs/stages/helper/log.txt").read_text()
    assert "There:" in log and "faulty.py" in log  # the helper's own traceback
