"""Exports and benchmarks in the plan, and what is refused of them before anything starts."""

from __future__ import annotations

import pytest

from obert_sweeps.plan.dag import Plan, make_plan
from obert_sweeps.request.read import read
from obert_sweeps.schema import RequestError, Stage

PRUNED = "t1/squad/bert_base/obert/2of4"
LARGE, LARGE_DENSE = "t3/squad/bert_large/obert/95", "t3/squad/bert_large/dense"
MOBILE = "t3/squad/mobilebert/obert/50"
OWN = ["table=0", "task=squad", "model=bert_large", "method=obert", "sparsity=block4"]
OWN += ["sparsity.level=0.9", "schedule=compound_large", "distill=none"]
CLUSTER = ["cluster.gpus_per_stage=0.5", "cluster.cpus_per_stage=3"]
BENCHMARK = "preset.stages.benchmark.benchmark"


def plan(*overrides: str) -> Plan:
    return make_plan(read(list(overrides)))


def final(planned: Plan, cell: str) -> Stage:
    return planned.stages[planned.cells[cell].finals[42]]


def test_two_of_four_is_timed_where_a_stage_has_a_gpu_and_not_elsewhere() -> None:
    without, there = (
        plan("table=1", f"cluster.gpus_per_stage={gpus}", "seeds=[42,7]") for gpus in (0, 1)
    )
    assert not [s for s in without.stages.values() if s.recipe["kind"] == "benchmark"]
    timed = final(there, PRUNED)
    assert timed.recipe["kind"] == "benchmark" and timed.recipe["benchmark"]["gpu"] is True
    assert timed.resources["gpu"] == 1
    dense = there.cells["t1/squad/bert_base/dense"].finals
    assert timed.parents == {"start": final(without, PRUNED).id, "against": dense[42]}
    other = there.stages[there.cells[PRUNED].finals[7]]
    assert other.parents["against"] == dense[7]  # of its own seed
    assert {engine["name"] for engine in timed.recipe["benchmark"]["engines"]} == {"torch-2of4"}


def test_mobilebert_is_compared_with_bert_larges_export() -> None:
    planned = plan("table=3", "preset=paper", "seeds=2", *CLUSTER)
    exported = {}
    for cell in (LARGE, LARGE_DENSE, MOBILE):
        benchmark = final(planned, cell)
        export = planned.stages[benchmark.parents["start"]]
        assert (benchmark.recipe["kind"], export.recipe["kind"]) == ("benchmark", "export")
        assert benchmark.recipe["benchmark"]["shapes"][0] == [128, 384]  # the document's
        exported[cell] = export
    assert exported[LARGE_DENSE].parents.keys() == {"start"}
    for cell in (LARGE, MOBILE):
        for stage in (exported[cell], final(planned, cell)):
            assert stage.parents["against"] == exported[LARGE_DENSE].id
    assert exported[MOBILE].recipe["model"]["name"] == "mobilebert"
    trained = planned.stages[exported[MOBILE].parents["start"]]
    assert trained.recipe["training"]["quantize"] == {"observe_until": 1}
    large, dense = (planned.stages[planned.cells[c].finals[3407]] for c in (LARGE, LARGE_DENSE))
    assert large.parents["against"] == dense.parents["start"]  # the export of its own seed
    asked = {(s.recipe["kind"], *s.resources.values()) for s in planned.stages.values()}
    on_gpus = {("train", 3.0, 0.5), ("teacher_logits", 3.0, 0.5)}
    assert asked == on_gpus | {("export", 3.0, 0.0), ("benchmark", 3.0, 0.0)}


def test_int8_training_has_one_worker_and_is_shortened_in_proportion() -> None:
    planned = plan("table=3", "preset=paper", "seeds=1", "cluster.workers_per_stage=2")
    workers = {planned.stages[i].tags["role"]: planned.stages[i].workers for i in planned.stages}
    assert workers["compound_large"] == workers["dense"] == 2
    assert workers["qat"] == workers["export"] == workers["benchmark"] == 1
    short = plan("table=3", "preset=paper", "seeds=1", "budget.max_epochs=0.5")
    (qat, _) = (s for s in short.stages.values() if s.tags["role"] == "qat")
    training = qat.recipe["training"]
    assert training["epochs"] == 0.5 and training["quantize"] == {"observe_until": 0.25}
    assert training["learning_rate"][-1]["until"] == 0.5


def test_how_it_is_measured_changes_the_benchmark_alone() -> None:
    one, other = (
        plan("table=3", f"{BENCHMARK}.repeats={n}", "budget.max_eval_rows=9") for n in (3, 4)
    )
    assert final(one, LARGE).recipe["benchmark"]["max_eval_rows"] == 9
    one, other = one.cells[LARGE], other.cells[LARGE]
    assert one.finals != other.finals and one.stages[:-1] == other.stages[:-1]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([*OWN, "schedule.stages.export.against=gradual"], "'gradual_squad' exports nothing"),
        ([*OWN, "schedule.stages.export.kind=exprot"], "Choose train, export or benchmark"),
        (["table=3", f"+{BENCHMARK}.repeets=3"], "repeets"),
        (["table=3", f"+{BENCHMARK}.engines=[{{name: onnx}}]"], "no engine 'onnx'. Choose"),
        (["table=3", f"{BENCHMARK}.shapes=[[1,384]]"], "at most 64 tokens"),
    ],
)
def test_what_cannot_be_measured_is_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(RequestError) as error:
        plan(*overrides)
    assert says in str(error.value)
