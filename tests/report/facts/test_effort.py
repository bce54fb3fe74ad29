"""What a method was given, counted by hand on a small chain of stages."""

from __future__ import annotations

import pytest
from report.fake_sweep import FakeCellPlan, FakeSweep

from obert_sweeps.catalogue.tables import cell_named
from obert_sweeps.report.build import build
from obert_sweeps.report.facts.effort import effort, fisher_gradients
from obert_sweeps.schema import Stage

DENSE, PRUNED = "t4/sst2/bert_base/dense", "t4/sst2/bert_base/obert/90"


def stage(name, parents, task, epochs, batch, method=None, pruning=None, seconds=3.0):
    training = {"epochs": epochs, "batch_size": batch, "pruning": pruning}
    recipe = {"kind": "train", "training": training, "method": method or {"_target_": "d"}}
    tags = {"task": task, "role": name}
    return Stage(name, name, recipe, 1, parents, tags=tags, cost={"seconds": seconds})


@pytest.fixture
def fake():
    obert = {"num_grads": 1024, "grad_batch_size": 16, "num_recomputations": 2}
    pruning = {"start": 2.0, "end": 6.0, "every": 1.0}
    stages = [
        stage("pretrain", {}, "mlm", 2, 64),
        stage("dense", {"start": "pretrain"}, "sst2", 3, 32),
        stage("upstream", {"start": "pretrain"}, "mlm", 3, 256, obert, pruning),
        stage("transfer", {"start": "upstream", "teacher": "dense"}, "sst2", 8, 32, seconds=7.0),
    ]
    plans = {
        DENSE: FakeCellPlan(cell_named(DENSE), finals={1: "dense"}, stages=["pretrain", "dense"]),
        PRUNED: FakeCellPlan(
            cell_named(PRUNED), finals={1: "transfer"}, stages=[s.id for s in stages]
        ),
    }
    return FakeSweep(plans, {s.id: s for s in stages})


def of(fake, cell):
    return effort(fake.cells[cell], fake, fake)


def test_only_what_goes_beyond_the_dense_model_counts(fake):
    found = of(fake, PRUNED)
    assert (found["epochs"], found["upstream_epochs"]) == (8, 3)
    # Five pruning steps, each of two rounds of 1024 gradients.
    assert found["fisher_gradients"] == 5 * 2 * 1024
    assert found["planned_seconds"] == 10.0
    assert (found["examples"], found["seconds"]) == (None, None)  # nothing has run
    dense = of(fake, DENSE)
    assert (dense["epochs"], dense["upstream_epochs"], dense["fisher_gradients"]) == (3, 2, 0)


def test_examples_and_time_are_those_of_the_results(fake):
    for name, steps, cpu in (("upstream", 30, 5.0), ("transfer", 100, 7.0)):
        spent = {"seconds": cpu + 1, "cpu_seconds": cpu, "gpu_seconds": 0.0}
        fake.results[name] = {"id": name, "status": "done", "steps": steps, "cost": spent}
    found = of(fake, PRUNED)
    assert found["examples"] == 30 * 256 + 100 * 32
    assert (found["seconds"], found["cpu_seconds"], found["gpu_seconds"]) == (14.0, 12.0, 0.0)


def test_it_is_a_mean_over_seeds(fake):
    fake.stages["again"] = stage("again", {"start": "upstream"}, "sst2", 4, 32)
    fake.cells[PRUNED].finals[2] = "again"
    assert of(fake, PRUNED)["epochs"] == 6
    assert of(fake, PRUNED)["upstream_epochs"] == 3  # it makes both models


def test_no_gradients_without_a_fisher_matrix():
    training = {"epochs": 1, "batch_size": 8, "pruning": {"start": 0, "end": 0, "every": None}}
    assert fisher_gradients({"method": {"_target_": "m"}, "training": training}) == 0


def test_the_report_holds_it_beside_the_accuracy(fake):
    entry = next(e for e in build(fake, fake)["cells"] if e["id"] == PRUNED)
    assert entry["effort"]["epochs"] == 8 and entry["measured"] == {}
