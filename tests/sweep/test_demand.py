"""What a cluster can never give is refused, with the key that asks for less of it."""

from __future__ import annotations

import pytest

from obert_sweeps.schema import RequestError, Stage
from obert_sweeps.sweep.demand import check_demand, most_at_once

NODES = [{"CPU": 2.0}, {"CPU": 4.0, "GPU": 1.0}]


def asking(workers: int = 1, **resources: float) -> list[Stage]:
    return [Stage("id", "stage", {"kind": "train"}, 42, resources=resources, workers=workers)]


@pytest.mark.parametrize(
    ("stages", "nodes", "says"),
    [
        (asking(cpu=1, gpu=1), NODES[:1], "cluster.gpus_per_stage=0"),
        (asking(cpu=1, gpu=2), NODES, "cluster.gpus_per_stage=0"),
        (asking(cpu=8), NODES, "cluster.cpus_per_stage=1"),
        (asking(cpu=8, gpu=1), NODES, "cluster.cpus_per_stage=1"),
        (asking(cpu=1, gpu=1.5), NODES, "GPUs are whole"),
        (asking(cpu=2, workers=4), NODES, "cluster.workers_per_stage=3"),
    ],
)
def test_what_never_fits_is_refused_with_what_to_type(
    stages: list[Stage], nodes: list[dict[str, float]], says: str
) -> None:
    with pytest.raises(RequestError, match=says):
        check_demand(stages, nodes)


def test_what_fits_is_let_through() -> None:
    check_demand([*asking(cpu=4, gpu=0.5), *asking(cpu=2, workers=3)], NODES)


@pytest.mark.parametrize(
    ("stages", "most"),
    [
        (asking(cpu=1), 6),
        (asking(cpu=1, workers=2), 3),
        (asking(cpu=1, gpu=0.5), 2),
        ([*asking(cpu=4), *asking(cpu=2)], 3),
        (asking(cpu=8), 1),
    ],
)
def test_as_many_run_at_once_as_those_that_ask_for_least(stages: list[Stage], most: int) -> None:
    assert most_at_once(stages, NODES) == most
