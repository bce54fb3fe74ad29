"""Prune OFA's chain on a real small model: pruned per layer upstream, locked on the tasks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_stage import MAGNITUDE, masks, run, stage, weights

POOLER = "bert.pooler.dense"
SPARSITY = {"pattern": "unstructured", "level": 0.9}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ofa")
    run(root, stage("language", task={"head": "mlm"}))
    run(root, stage("teacher", {"start": "language"}))
    upstream = stage(
        "upstream",
        {"start": "language", "teacher": "language"},
        task={"head": "mlm"},
        method={**MAGNITUDE, "scope": "tensor"},
        sparsity=SPARSITY,
        pruning={"start": 0, "end": 1, "every": 1 / 3},
        distill={"hardness": 0.5, "temperature": 2.0},
        prune_also=["pooler.dense"],
    )
    run(root, upstream)
    locked = {"lock_pattern": True, "prune_also": ["pooler.dense"]}
    taught = {"distill": {"hardness": 1.0, "temperature": 2.0}}
    parents = {"start": "upstream", "teacher": "teacher"}
    run(root, stage("transfer", parents, **locked, **taught))
    run(root, stage("span", {"start": "upstream"}, task={"head": "span"}, **locked))
    return root


def test_every_layer_is_at_the_level_and_the_pooler_too(store: Path) -> None:
    keep = masks(store, "upstream")
    assert len(keep) == 13 and POOLER in keep
    for name, mask in keep.items():
        assert int((~mask).sum()) == round(0.9 * mask.numel()), name
        assert torch.equal(mask, weights(store, "upstream")[f"{name}.weight"] != 0)


def test_the_pattern_is_the_same_after_transfer_and_what_it_keeps_has_moved(store: Path) -> None:
    before, after = weights(store, "upstream"), weights(store, "transfer")
    for name, mask in masks(store, "upstream").items():
        weight = f"{name}.weight"
        assert torch.equal(after[weight] != 0, mask), name
        assert not torch.equal(before[weight], after[weight]), name
    assert masks(store, "transfer").keys() == masks(store, "upstream").keys()


def test_a_span_head_has_no_pooler_to_lock(store: Path) -> None:
    upstream, span = masks(store, "upstream"), masks(store, "span")
    assert span.keys() == upstream.keys() - {POOLER}
    assert all(torch.equal(mask, upstream[name]) for name, mask in span.items())
