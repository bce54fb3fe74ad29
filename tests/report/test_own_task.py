"""A task of one's own: what its leaf calls its best metric is what the report goes by."""

from __future__ import annotations

from pathlib import Path

from obert_sweeps.cli.verb.run_records import CellRecords
from obert_sweeps.plan.dag import Plan, make_plan
from obert_sweeps.report.build import build
from obert_sweeps.report.facts.traces import read_traces
from obert_sweeps.report.pictures import groups
from obert_sweeps.request.read import read
from obert_sweeps.store import Store
from obert_sweeps.tracker.base import Tracker

MCC = {"dense": 80.0, "magnitude": 20.0, "obert": 60.0}  # accuracy says the contrary


def swept(method: str, store: Store) -> Plan:
    """A plan for the method, all of whose stages are finished and recorded."""
    words = f"table=0 task=sst2 model=bert_base method={method} sparsity=unstructured"
    loaded = read([*words.split(), "sparsity.level=0.5", "schedule=oneshot"])
    own = {"name": "reviews", "best_metric": "mcc"}  # as if there were a conf/task/reviews.yaml
    loaded.leaves["task"]["reviews"] = loaded.leaves["task"]["sst2"] | own
    loaded.choices["task"] = "reviews"
    planned = make_plan(loaded)
    for stage in planned.wanted():
        folder, mcc = store.folder(stage.id), MCC[stage.tags["method"]]
        metrics = {"accuracy": 100.0 - mcc, "mcc": mcc}
        folder.write_json("stage.json", stage.as_dict())
        folder.append({"epoch": 1.0, "metrics": metrics})
        folder.write_json("result.json", {"id": stage.id, "status": "done", "metrics": metrics})
    CellRecords(planned, store, Tracker(), lambda line: None).catch_up()
    return planned


def test_it_is_scored_by_the_best_metric_of_its_leaf(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "runs"))
    swept("magnitude", store)
    planned = swept("obert", store)
    (cell,) = planned.selected()
    assert cell.metric == "mcc"
    report = build(planned, store, store.cells())
    (entry,) = report["cells"]
    assert (entry["metric"], entry["recovery"], entry["dense"]) == ("mcc", 60 / 80, 80.0)
    assert groups.value(entry) == 60.0 and groups.title("g", [entry]) == "g: Mcc"
    rows = [(row["method"], row["recovery"]) for row in report["neighbours"]]
    assert rows == [("obert", 60 / 80), ("magnitude", 20 / 80)]  # best first
    traces = read_traces(planned, store)
    assert [y for _, y in traces.curves[cell.cell.id]["score"]] == [60.0]
    (lines,) = traces.one_shot.values()
    points = {line.method: points for line, points in lines.items()}
    assert points == {"obert": {0.0: 80.0, 0.5: 60.0}, "magnitude": {0.0: 80.0, 0.5: 20.0}}
