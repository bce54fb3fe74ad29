"""What the plots are drawn from, read back from a store written by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from report.fake_sweep import FakeCellPlan, FakeSweep

from obert_sweeps.catalogue.tables import cell_named
from obert_sweeps.report.facts.one_shot import Setting
from obert_sweeps.report.facts.traces import POINTS, read_traces, records
from obert_sweeps.schema import Stage
from obert_sweeps.store import Store

DENSE, PRUNED = "t5/sst2/bert_base/dense", "t5/sst2/bert_base/obert/90"


def write(store, stage, lines=(), metrics=None, seconds=10.0, layers=None, **times):
    folder = store.folder(stage.id)
    folder.write_json("stage.json", stage.as_dict())
    for line in lines:
        folder.append(line)
    folder.write_json(
        "result.json",
        {
            "id": stage.id,
            "status": "done",
            "metrics": metrics or {},
            "sparsity": {"overall": 0.0, "layers": layers or {}},
            "cost": {"seconds": seconds},
            "environment": {"host": "node-1"},
            **times,
        },
    )


def stage(name, parents, task="sst2", method="obert", epochs=2.0, level=0.9):
    recipe = {
        "task": {"name": task},
        "model": {"name": "bert_base"},
        "sparsity": {"pattern": "unstructured", "level": level},
        "training": {"epochs": epochs, "pruning": {"start": 0}},
    }
    tags = {"task": task, "method": method, "role": name}
    return Stage(name, name, recipe, 1, parents, tags=tags)


@pytest.fixture
def swept(tmp_path):
    """A dense model; upstream, then two stages on the task, for the pruned one."""
    store = Store(str(tmp_path))
    stages = [
        stage("dense", {}, method="dense", epochs=3.0, level=0.0),
        stage("upstream", {}, task="mlm"),
        stage("first", {"start": "upstream", "teacher": "dense"}, epochs=2.0),
        stage("second", {"start": "first"}, epochs=4.0),
    ]
    plan = FakeSweep(
        {
            DENSE: FakeCellPlan(cell_named(DENSE), finals={1: "dense"}, stages=["dense"]),
            PRUNED: FakeCellPlan(
                cell_named(PRUNED), finals={1: "second"}, stages=[s.id for s in stages]
            ),
        },
        {s.id: s for s in stages},
    )
    return plan, store


def test_curves_run_over_the_stages_on_the_task(swept):
    plan, store = swept
    write(store, plan.stages["dense"], [{"epoch": 3.0, "metrics": {"accuracy": 92.0}, "time": 1.0}])
    write(store, plan.stages["upstream"], [{"epoch": 1.0, "loss": 9.0, "time": 2.0}])
    write(
        store,
        plan.stages["first"],
        [
            {"epoch": 1.0, "loss": 0.5, "time": 3.0},
            {"epoch": 2.0, "metrics": {"accuracy": 70.0}, "time": 4.0},
        ],
    )
    layers = {"encoder.layer.0.query": 0.8, "encoder.layer.1.query": 0.95}
    after = [
        {"epoch": 4.0, "loss": 0.25, "time": 5.0},
        {"epoch": 4.0, "metrics": {"accuracy": None}, "time": 5.5},
        {"epoch": 4.0, "metrics": {"accuracy": 90.0}, "time": 6.0},
    ]
    write(store, plan.stages["second"], after, layers=layers)
    found = read_traces(plan, store)
    assert found.curves[PRUNED] == {
        "score": [(2.0, 70.0), (6.0, 90.0)],
        "loss": [(1.0, 0.5), (6.0, 0.25)],
    }
    assert found.curves[DENSE]["score"] == [(3.0, 92.0)]
    assert found.layers[PRUNED] == layers


def test_an_unfinished_cell_has_none(swept):
    plan, store = swept
    found = read_traces(plan, store)
    assert (found.curves, found.layers, found.spans, found.one_shot) == ({}, {}, [], {})


def test_long_records_are_thinned_and_torn_lines_skipped(tmp_path):
    folder = Store(str(tmp_path)).folder("s1")
    folder.path.mkdir(parents=True)
    lines = [json.dumps({"epoch": k, "loss": 1.0}) for k in range(5000)]
    lines[4000] = '{"epoch": '
    lines[7] = json.dumps({"epoch": 7, "metrics": {}})
    (folder.path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"epoch": 50')
    found = records(folder)
    assert POINTS - 2 <= len(found) <= POINTS + 1
    assert found[0]["epoch"] == 0 and found[-1]["epoch"] == 4999
    assert [r for r in found if "metrics" in r] == [{"epoch": 7, "metrics": {}}]
    epochs = [r["epoch"] for r in found]
    assert epochs == sorted(epochs) and len(set(epochs)) == len(epochs)
    assert records(Store(str(tmp_path)).folder("none")) == []


def test_one_shot_curves_hold_what_prunes_and_does_not_train(swept):
    plan, store = swept
    write(store, plan.stages["dense"], metrics={"accuracy": 92.0})
    for name, method, level, value, epochs in (
        ("a", "obert", 0.5, 90.0, 0.0),
        ("b", "obert", 0.5, 91.0, 0.0),
        ("c", "obert", 0.8, 80.0, 0.0),
        ("d", "magnitude", 0.5, 70.0, 0.0),
        ("e", "obert", 0.6, 91.5, 1.0),  # trains
        ("f", "dense", 0.0, 92.0, 0.0),  # only evaluates
    ):
        one = stage(name, {"start": "dense"}, method=method, epochs=epochs, level=level)
        write(store, replace(one, seed=2 if name == "b" else 1), metrics={"accuracy": value})
    found = read_traces(plan, store).one_shot
    assert found == {
        ("sst2", "bert_base", "unstructured", "dense"): {
            Setting("obert"): {0.0: 92.0, 0.5: 90.5, 0.8: 80.0},
            Setting("magnitude"): {0.0: 92.0, 0.5: 70.0},
        }
    }


def test_one_shot_curves_of_one_method_with_other_settings_are_other_lines(swept):
    plan, store = swept
    write(store, plan.stages["dense"], metrics={"accuracy": 92.0})
    for name, damp, seed, value in (
        ("a", 1e-7, 1, 90.0),
        ("b", 1e-7, 2, 91.0),
        ("c", 0.1, 1, 60.0),
        ("d", 0.1, 2, 61.0),
    ):
        one = replace(stage(name, {"start": "dense"}, epochs=0.0, level=0.5), seed=seed)
        one.recipe["method"] = {"damp": damp, "num_grads": 64}
        write(store, one, metrics={"accuracy": value})
    one = stage("e", {"start": "dense"}, method="magnitude", epochs=0.0, level=0.5)
    write(store, one, metrics={"accuracy": 70.0})
    (lines,) = read_traces(plan, store).one_shot.values()
    assert lines == {
        Setting("obert", "method.damp=1e-07"): {0.0: 92.0, 0.5: 90.5},
        Setting("obert", "method.damp=0.1"): {0.0: 92.0, 0.5: 60.5},
        Setting("magnitude"): {0.0: 92.0, 0.5: 70.0},
    }


def test_results_of_two_versions_of_a_method_are_two_lines(swept):
    plan, store = swept
    write(store, plan.stages["dense"], metrics={"accuracy": 92.0})
    versions = {"a": {}, "b": {"method_version": 2}, "c": {"method_version": 2}}
    for name, value, seed in (("a", 50.0, 1), ("b", 90.0, 1), ("c", 91.0, 2)):
        one = stage(name, {"start": "dense"}, epochs=0.0, level=0.5)
        identity = {"version": 2, **versions[name]}
        write(store, replace(one, seed=seed, identity=identity), metrics={"accuracy": value})
    (lines,) = read_traces(plan, store).one_shot.values()
    assert lines == {
        Setting("obert", "method_version=1"): {0.0: 92.0, 0.5: 50.0},
        Setting("obert", "method_version=2"): {0.0: 92.0, 0.5: 90.5},
    }


def test_a_stage_spans_its_last_attempt(swept):
    plan, store = swept
    times = {"started": 2000.0, "finished": 2012.0}
    write(store, plan.stages["dense"], [{"time": 2002.0}], seconds=11.5, **times)
    write(store, plan.stages["upstream"], [{"time": 2002.0}], seconds=30.0, **times)
    dense, upstream = read_traces(plan, store).spans
    assert (dense.start, dense.end, dense.resumed, dense.host) == (2000.0, 2012.0, False, "node-1")
    assert upstream.resumed  # it cost more than that, in an earlier attempt


def test_of_a_result_without_times_what_it_cost_up_to_its_last_record(swept):
    plan, store = swept
    write(store, plan.stages["dense"], [{"time": 1002.0}, {"time": 1010.0}], seconds=10.0)
    (dense,) = read_traces(plan, store).spans
    assert (dense.start, dense.end, dense.resumed) == (1000.0, 1010.0, False)
