"""A process that is killed inside a pruning step, and one that gets no more memory; both real."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import torch
from killed_writes import in_child
from tiny_stage import masks, runtime, stage, weights

from obert_sweeps.store import Store
from obert_sweeps.trial import run_stage

ALLOWED = ["tiny_bert", "failing_methods"]


def gradual(method: dict[str, Any]) -> dict[str, Any]:
    return stage(
        "gradual",
        method=method,
        sparsity={"pattern": "unstructured", "level": 0.6},
        pruning={"start": 0.5, "end": 1.5, "every": 0.5, "initial": 0.3},
    )


def test_a_kill_inside_a_pruning_step_lets_the_whole_step_be_taken_again(tmp_path: Path) -> None:
    def work(root: Path) -> None:
        leaf = {"_target_": "failing_methods.Killed", "note": str(tmp_path / root.name) + ".note"}
        how = runtime(root, checkpoint_seconds=0.0, allow_targets=ALLOWED)
        assert run_stage(gradual(leaf), how)["status"] == "done"

    (tmp_path / "calm.note").touch()  # it had its kill
    work(tmp_path / "calm")
    root = tmp_path / "killed"
    assert in_child(work, root) is None
    assert Store(str(root)).folder("gradual").checkpoints()
    assert in_child(work, root) is not None
    for found in (weights, masks):
        calm, killed = found(tmp_path / "calm", "gradual"), found(root, "gradual")
        assert all(torch.equal(calm[key], killed[key]) for key in calm)
    results = [Store(str(tmp_path / name)).result("gradual") for name in ("calm", "killed")]
    assert results[0]["metrics"] == results[1]["metrics"]  # type: ignore[index]
    assert "going on from checkpoint-" in (root / "stages/gradual/log.txt").read_text()


def test_a_stage_that_gets_no_memory_fails_and_says_so(tmp_path: Path) -> None:
    def work(root: Path) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 2**29
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        how = runtime(root, allow_targets=ALLOWED)
        told = run_stage(gradual({"_target_": "failing_methods.Greedy"}), how)
        (tmp_path / "told.json").write_text(json.dumps(told))

    assert in_child(work, tmp_path / "runs") is not None
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["status"] == "failed" and "memory" in told["reason"]
    store = Store(str(tmp_path / "runs"))
    assert store.failure("gradual")["reason"] == told["reason"]  # type: ignore[index]
    assert store.folder("gradual").lease_state() is None
