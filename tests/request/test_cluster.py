"""What a request says of the cluster: a value that would be run with, and none that would not."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from omegaconf import OmegaConf

from obert_sweeps.request.cluster import check_cluster
from obert_sweeps.request.read import read
from obert_sweeps.schema import RequestError
from obert_sweeps.shipped import leaf_names

WHOLE_FROM_1 = ("micro_batch", "max_concurrent", "cpus", "wait_for_nodes", "workers_per_stage",
                "cpus_per_stage")  # fmt: skip
SECONDS = ("checkpoint_seconds", "held_seconds", "wait_seconds")
OR_NULL = ("micro_batch", "max_concurrent", "cpus", "memory_gb")

REFUSED = [
    *((key, value) for key in WHOLE_FROM_1 for value in (0, -4, 1.5, True, "x", [1])),
    *((key, value) for key in SECONDS for value in (-1, inf, nan, True, "x", None)),
    *((key, value) for key in ("memory_gb", "group_seconds") for value in (0, -1, inf, "x")),
    *((key, None) for key in ("group_seconds", "max_failures", "wait_for_nodes")),
    *(("max_failures", value) for value in (-1, 0.5)),
    *(("gpus", value) for value in (-1, 0.5, "all", None)),
    *(("gpus_per_stage", value) for value in (-1, inf, "x", None)),
    *(("device", value) for value in ("cdua", "cuda:", "cuda:x", "cuda 0", "gpu", 0, None)),
    ("runner", "slurm"),
    ("teacher_logits", "twice"),
    ("reuse_actors", "maybe"),
]
TAKEN = [
    *((key, 1) for key in WHOLE_FROM_1),
    *((key, None) for key in OR_NULL),
    *((key, value) for key in SECONDS for value in (0, 0.5, 1e9)),
    *(("device", value) for value in ("auto", "cpu", "cuda", "cuda:0", "cuda:12")),
    *(("reuse_actors", value) for value in ("auto", True, False)),
    *(("gpus", value) for value in ("auto", 0, 2)),
    *(("gpus_per_stage", value) for value in ("auto", 0, 0.5, 2)),
    ("memory_gb", 1.5),
    ("group_seconds", 0.1),
    ("max_failures", 0),
    ("runner", "inline"),
    ("teacher_logits", "each_step"),
]


@pytest.mark.parametrize(("key", "value"), REFUSED)
def test_what_no_stage_could_be_run_with_is_refused(key: str, value: Any) -> None:
    with pytest.raises(RequestError, match=rf"cluster\.{key}=.*: it must be (a|auto|once|ray)"):
        check_cluster(OmegaConf.create({key: value}))


@pytest.mark.parametrize(("key", "value"), TAKEN)
def test_what_a_stage_can_be_run_with_is_taken(key: str, value: Any) -> None:
    check_cluster(OmegaConf.create({key: value}))


def test_a_request_is_held_to_it_whatever_the_verb() -> None:
    """A micro-batch below one row would train nothing, and store that as the result."""
    with pytest.raises(RequestError, match="micro_batch=-4: it must be a whole number, 1 or more"):
        read(["cluster=inline", "cluster.micro_batch=-4"])
    for cluster in leaf_names("cluster"):
        read([f"cluster={cluster}"])
