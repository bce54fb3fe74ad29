"""Lottery rounds on a real small model: what is pruned, what comes back, what stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_bert import Stopping
from tiny_stage import MAGNITUDE, masks, run, runtime, stage, weights

from obert_sweeps.schema import Interrupted
from obert_sweeps.trial import run_stage

LEVELS = (0.2, 0.4, 0.6)
HEAD = ("classifier.weight", "classifier.bias")


def a_round(
    name: str,
    start: str,
    level: float,
    epochs: float = 2,
    method: dict[str, Any] = MAGNITUDE,
    **more: Any,
) -> dict[str, Any]:
    return stage(
        name,
        {"start": start, "rewind": "pretrained"},
        method=method,
        sparsity={"pattern": "unstructured", "level": level},
        pruning={"start": 0, "end": 0},
        prune_also=["pooler.dense"],
        rewind="pretrained",
        epochs=epochs,
        **more,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained language model, rounds from it, and each round's weights before training."""
    root = tmp_path_factory.mktemp("rounds")
    run(root, stage("pretrained", task={"head": "mlm"}))
    still = {"epochs": 0, "learning_rate": []}
    run(root, stage("begin", {"start": "pretrained"}, prune_also=["pooler.dense"], **still))
    run(root, stage("round0", {"start": "pretrained"}, prune_also=["pooler.dense"]))
    for k, level in enumerate(LEVELS, 1):
        run(root, a_round(f"rewound{k}", f"round{k - 1}", level, epochs=0, learning_rate=[]))
        run(root, a_round(f"round{k}", f"round{k - 1}", level))
    return root


def test_what_stays_is_bit_equal_to_the_pretrained_weights(store: Path) -> None:
    """The pooler, which the language model lacks, to what the first round began with."""
    began, pretrained = weights(store, "begin"), weights(store, "pretrained")
    encoder = {k for k in began if k.startswith("bert.")}
    assert all(torch.equal(pretrained[k], began[k]) for k in encoder if "pooler" not in k)
    for k in (1, 2, 3):
        rewound, keep = weights(store, f"rewound{k}"), masks(store, f"rewound{k}")
        for name in encoder:
            mask = keep.get(name.removesuffix(".weight"))
            expected = began[name] if mask is None else began[name] * mask
            assert torch.equal(rewound[name], expected), name


def test_the_task_head_is_not_rewound(store: Path) -> None:
    for k in (1, 2, 3):
        before, rewound = weights(store, f"round{k - 1}"), weights(store, f"rewound{k}")
        assert all(torch.equal(before[name], rewound[name]) for name in HEAD)
        assert not torch.equal(weights(store, "begin")[HEAD[0]], rewound[HEAD[0]])


def test_masks_are_nested_of_the_exact_level_and_hold_through_training(store: Path) -> None:
    before = None
    for k, level in enumerate(LEVELS, 1):
        keep = masks(store, f"round{k}")
        assert "bert.pooler.dense" in keep and len(keep) == 13
        total = sum(mask.numel() for mask in keep.values())
        assert sum(int((~mask).sum()) for mask in keep.values()) == round(level * total)
        trained = weights(store, f"round{k}")
        for name, mask in keep.items():
            assert torch.equal(mask, masks(store, f"rewound{k}")[name])
            assert not trained[f"{name}.weight"][~mask].any()
            assert before is None or not (mask & ~before[name]).any()
        before = keep


def test_a_round_prunes_the_lowest_of_what_training_made(store: Path) -> None:
    """One threshold over all matrices, by the trained and not by the pretrained weights."""
    trained, keep = weights(store, "round0"), masks(store, "round1")
    kept = torch.cat([trained[f"{n}.weight"][m].abs() for n, m in keep.items()])
    gone = torch.cat([trained[f"{n}.weight"][~m].abs() for n, m in keep.items()])
    assert gone.max() <= kept.min()
    began = weights(store, "begin")
    kept = torch.cat([began[f"{n}.weight"][m].abs() for n, m in keep.items()])
    gone = torch.cat([began[f"{n}.weight"][~m].abs() for n, m in keep.items()])
    assert gone.max() > kept.min()


def test_a_round_interrupted_in_the_middle_ends_with_the_same_bits(
    store: Path, tmp_path: Path
) -> None:
    """Neither pruned nor rewound a second time."""
    for name in ("pretrained", "round0"):
        (tmp_path / "stages").mkdir(exist_ok=True)
        (tmp_path / "stages" / name).symlink_to(store / "stages" / name)
    stopping = {"_target_": "tiny_bert.Stopping"}
    spec = a_round("round1", "round0", LEVELS[0], method=stopping)
    Stopping.stop_after = 4
    try:
        with pytest.raises(Interrupted):
            run_stage(spec, runtime(tmp_path, checkpoint_seconds=0.0))
    finally:
        Stopping.stop_after = None
    assert list((tmp_path / "stages/round1").glob("checkpoint-*"))
    run(tmp_path, spec)
    expected = weights(store, "round1")
    found = load_file(tmp_path / "stages/round1/model/model.safetensors")
    assert all(torch.equal(expected[k], v) for k, v in found.items())


def test_without_that_parent_it_rewinds_to_the_models_own_checkpoint(
    store: Path, tmp_path: Path
) -> None:
    own = {"path": str(store / "stages/pretrained/model"), "from_config": False}
    dense, ticket = stage("round0"), a_round("ticket", "round0", 0.5, epochs=0, learning_rate=[])
    del ticket["parents"]["rewind"]
    for spec in (dense, ticket):
        spec["recipe"]["model"].update(own)
        run(tmp_path, spec)
    rewound, keep = weights(tmp_path, "ticket"), masks(tmp_path, "ticket")
    for name, mask in keep.items():
        if "pooler" not in name:
            there = weights(store, "pretrained")[f"{name}.weight"]
            assert torch.equal(rewound[f"{name}.weight"], there * mask)
