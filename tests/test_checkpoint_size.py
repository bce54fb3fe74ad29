"""Checkpoints are few and small: how many lie there at once, and what one weighs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from full_disk import full_disk
from tiny_stage import MAGNITUDE, run, stage

from obert_sweeps.store import StageFolder, Store


def test_where_the_disk_is_nearly_full_one_checkpoint_lies_beside_the_one_that_is_written() -> None:
    with full_disk(2_500_000) as root:
        folder = Store(str(root)).folder("s1")
        most = 0
        for step in range(1, 8):
            with folder.new_checkpoint(step) as part:
                (part / "state.pt").write_bytes(b"s" * 10**6)
                most = max(most, folder.size())
        assert folder.checkpoints() == ["checkpoint-6", "checkpoint-7"]
        assert most < 2.1e6  # with a third there would be no room


def test_with_room_enough_the_newest_two_stay_until_the_third_is_whole(tmp_path: Path) -> None:
    folder = Store(str(tmp_path)).folder("s1")
    for step in range(1, 4):
        with folder.new_checkpoint(step) as part:
            (part / "state.pt").write_text("small")
            there = folder.checkpoints()
    assert there == ["checkpoint-1", "checkpoint-2"]


def test_a_checkpoint_weighs_what_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, two moments of Adam, the best weights, and two sets of masks of a byte a weight."""
    monkeypatch.setattr(StageFolder, "drop_checkpoints", lambda self: None)
    run(
        tmp_path,
        stage(
            "pruned",
            method=MAGNITUDE,
            sparsity={"pattern": "unstructured", "level": 0.5},
            keep="best",
            pruning={"start": 0, "end": 0},
        ),
        checkpoint_seconds=0.0,
    )
    folder = Store(str(tmp_path)).folder("pruned")
    (newest,) = folder.checkpoints()[-1:]
    state = torch.load(folder.path / newest / "state.pt", weights_only=True)
    weights = sum(tensor.numel() for tensor in state["model"].values())
    masked = sum(tensor.numel() for tensor in state["masks"].values())
    assert state["best"] is not None and masked > weights / 2
    held = bytes_of(state) - bytes_of(state["random"])
    assert held == pytest.approx(4 * weights * (1 + 2 + 1) + 2 * masked, rel=0.05)
    assert folder.size(newest) - held < 100_000  # names and alignment, whatever the model's size


def bytes_of(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(bytes_of, value.values()))
    return sum(map(bytes_of, value)) if isinstance(value, list | tuple) else 0
