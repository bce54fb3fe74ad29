"""What is expected of stages to come, from what finished ones took."""

from __future__ import annotations

from typing import Any

import pytest

from obert_sweeps.plan.cost import START_SECONDS, Measured
from obert_sweeps.schema import Stage


def stage(task: str, flops: float, model: str = "bert_base", **more: Any) -> Stage:
    tags = {"task": task, "model": model}
    recipe = {"kind": more.pop("kind", "train")}
    return Stage("s", "s", recipe, 1, tags=tags, cost={"flops": flops, "seconds": 77.0}, **more)


def result(seconds: float, **environment: Any) -> dict[str, Any]:
    spent = {"seconds": START_SECONDS + seconds}
    return {"status": "done", "cost": spent, "environment": {"device": "cpu", **environment}}


def test_a_stage_takes_what_those_of_its_task_and_model_took() -> None:
    measured = Measured()
    measured.add(stage("sst2", 100.0), result(10.0))
    measured.add(stage("sst2", 300.0), result(10.0))  # 20 a second with the one above
    measured.add(stage("squad", 50.0), result(10.0))  # 5 a second
    assert measured.stages == 3
    assert measured.seconds_of(stage("sst2", 40.0)) == pytest.approx(START_SECONDS + 2.0)
    assert measured.seconds_of(stage("squad", 40.0)) == pytest.approx(START_SECONDS + 8.0)
    # A task not yet seen: by its model, 450 in 30 seconds.
    assert measured.seconds_of(stage("mnli", 30.0)) == pytest.approx(START_SECONDS + 2.0)
    assert measured.seconds_of(stage("sst2", 40.0, model="bert_large")) is None
    assert measured.seconds_of(stage("sst2", 40.0, kind="benchmark")) is None


def test_gpus_and_workers_are_told_apart() -> None:
    measured = Measured()
    measured.add(stage("sst2", 100.0), result(10.0, workers=2))  # 5 a second and worker
    on_gpu = {"cpu": 1.0, "gpu": 1.0}
    assert measured.seconds_of(stage("sst2", 40.0, resources=on_gpu)) is None
    measured.add(stage("sst2", 1000.0, resources=on_gpu), result(10.0, device="cuda"))
    assert measured.seconds_of(stage("sst2", 40.0)) == pytest.approx(START_SECONDS + 8.0)
    assert measured.seconds_of(stage("sst2", 40.0, workers=4)) == pytest.approx(START_SECONDS + 2.0)
    fast = measured.seconds_of(stage("sst2", 400.0, resources=on_gpu))
    assert fast == pytest.approx(START_SECONDS + 4.0)


def test_what_did_not_end_well_or_trained_nothing_tells_nothing() -> None:
    measured = Measured()
    measured.add(stage("sst2", 100.0), {**result(10.0), "status": "not_converged"})
    measured.add(stage("sst2", 0.0), result(10.0))
    measured.add(stage("sst2", 100.0), result(-0.5))
    measured.add(stage("sst2", 100.0), {"status": "done"})
    assert measured.stages == 0 and measured.seconds_of(stage("sst2", 1.0)) is None
