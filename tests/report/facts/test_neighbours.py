"""A method of one's own beside its competitors in the same store."""

from __future__ import annotations

from dataclasses import replace

from report.fake_sweep import sweep

from obert_sweeps.catalogue.tables import cell_named
from obert_sweeps.report import words
from obert_sweeps.report.build import build
from obert_sweeps.report.pages.html import html
from obert_sweeps.report.pages.markdown import markdown

DENSE, OWN = "t5/sst2/bert_base/dense", "t0/sst2/bert_base/mine/60"


def own_sweep():
    """One cell of the user's own, which starts from the dense model of table 5."""
    fake = sweep(seeds=(1,))
    base = cell_named("t5/sst2/bert_base/obert/90")
    cell = replace(base, id=OWN, table=0, method="mine", sparsity=0.6, variant="60", published={})
    plan = replace(fake.cells[base.id], cell=replace(cell, baseline=None))
    for other in fake.cells.values():
        other.selected = False
    for stage in fake.stages.values():
        stage.tags["sparsity"] = "dense" if stage.id.startswith(DENSE.replace("/", "-")) else "60"
    fake.cells[OWN] = plan
    fake.finish(OWN, 1, accuracy=80.0)
    fake.finish(DENSE, 1, accuracy=90.0)
    return fake


def record(name, value, stages, seed=1, task="sst2", level=0.6):
    method = name.split("/")[3]
    return {
        **{"id": name, "table": 0, "task": task, "model": "bert_base", "method": method},
        **{"sparsity": level, "seed": seed, "stages": stages, "measured": {"accuracy": value}},
    }


def test_a_new_method_stands_among_its_competitors():
    fake = own_sweep()
    shared, last = fake.cells[OWN].stages
    records = [
        record(OWN, 80.0, [shared, last]),
        record("t0/sst2/bert_base/obert/60", 85.0, [shared, "x"]),
        record("t0/sst2/bert_base/obert/60", 87.0, [shared, "y"], seed=2),
        record("t0/sst2/bert_base/random/60", None, [shared, "z"]),
        record("t0/sst2/bert_base/obert/30", 89.0, [shared, "v"], level=0.3),
        record("t0/sst2/bert_base/magnitude/60", 99.0, ["another model", "w"]),
        record("t0/cola/bert_base/obert/60", 99.0, [shared, "u"], task="cola"),
    ]
    report = build(fake, fake, records)
    rows = report["neighbours"]
    assert [row["id"].split("/", 3)[3] for row in rows] == [
        *("obert/30", "obert/60", "mine/60", "random/60")
    ]
    obert, mine = rows[1], rows[2]
    assert (obert["measured"], obert["seeds"], obert["stage"]) == ({"accuracy": 86.0}, [1, 2], "y")
    assert (mine["selected"], obert["selected"]) == (True, False)
    assert mine["recovery"] == 80 / 90 and rows[3]["recovery"] is None
    for text in (html(report), markdown(report)):
        assert "Beside them in this store" in text and "95.6%" in text


def test_cells_of_one_id_are_told_by_what_was_said_of_them():
    fake = own_sweep()
    shared, last = fake.cells[OWN].stages
    fake.cells[OWN].cell = replace(fake.cells[OWN].cell, settings=("preset=demo", "schedule=a"))
    records = [
        record(OWN, 80.0, [shared, last]) | {"settings": ["preset=demo", "schedule=a"]},
        record(OWN, 85.0, [shared, "x"]) | {"settings": ["preset=demo", "schedule=b"]},
        record(OWN, 85.0, [shared, "y"], seed=2) | {"settings": ["preset=demo", "schedule=b"]},
        record(DENSE, 90.0, [shared], level=0.0),
    ]
    report = build(fake, fake, records)
    rows = [(r["settings"], r["seeds"], r["selected"]) for r in report["neighbours"]]
    assert rows == [([], [1], False), (["schedule=b"], [1, 2], False), (["schedule=a"], [1], True)]
    assert "schedule=b" in html(report) and "schedule=b" in markdown(report)


def test_what_a_dense_model_took_is_not_the_methods_own_effort():
    fake = own_sweep()
    (entry,) = (e for e in build(fake, fake)["cells"] if e["id"] == OWN)
    assert entry["effort"]["epochs"] == 8  # of 16 with the dense model's
    assert entry["effort"]["cpu_seconds"] == 1.5


def test_a_teachers_logits_and_a_quantised_model_are_no_dense_model():
    """No method prunes in either; the second is tagged by what it keeps."""
    fake = own_sweep()
    shared, last = fake.cells[OWN].stages
    logits = replace(fake.stages[shared], id="logits", parents={"model": shared}, recipe={})
    quantised = replace(fake.stages[last], id="quantised", parents={"start": last})
    fake.stages |= {"logits": logits, "quantised": quantised}
    fake.results["quantised"] = fake.results[last]
    fake.cells[OWN].stages[1:] = ["logits", last, "quantised"]
    fake.cells[OWN].finals = {1: "quantised"}
    records = [
        record(OWN, 80.0, [shared, "quantised"]),
        record(DENSE, 90.0, [shared], level=0.0),
    ]
    assert [r["recovery"] for r in build(fake, fake, records)["neighbours"]] == [1.0, 80 / 90]


def test_nobody_to_compare_with_is_no_table():
    fake = own_sweep()
    assert build(fake, fake, [record(OWN, 80.0, fake.cells[OWN].stages)])["neighbours"] == []
    assert build(sweep(seeds=(1,)), fake, [])["neighbours"] == []
    assert "Beside" not in markdown(build(fake, fake))


def test_patterns_have_rows_of_their_own_and_are_named():
    fake = own_sweep()
    shared, last = fake.cells[OWN].stages
    block = replace(fake.stages[last], recipe={"sparsity": {"pattern": "block4", "level": 0.6}})
    fake.stages["block"] = fake.stages["block 2"] = block
    said = ["schedule=oneshot"]
    records = [
        record(OWN, 80.0, [shared, last]) | {"settings": said, "pattern": "unstructured"},
        # As it was recorded before patterns were, and as it is recorded now.
        record(OWN, 70.0, [shared, "block"]) | {"settings": said},
        record(OWN, 74.0, [shared, "block 2"], seed=2)
        | {"settings": [*said, "sparsity=block4"], "pattern": "block4"},
        record("t3/sst2/bert_base/obert/60", 75.0, [shared, "v"]) | {"pattern": "block4"},
        record(DENSE, 90.0, [shared], level=0.0),
    ]
    report = build(fake, fake, records)
    rows = [(r["pattern"], r["seeds"], r["selected"], r["settings"]) for r in report["neighbours"]]
    assert rows == [
        ("", [1], False, []),
        ("unstructured", [1], True, []),
        ("block4", [1], False, []),
        ("block4", [1, 2], False, []),
    ]
    assert markdown(report).count("| 60 block4 |") == html(report).count(">60 block4<") == 2


def test_what_is_pruned_is_what_was_measured():
    fake = own_sweep()
    shared, last = fake.cells[OWN].stages
    fake.results[last]["sparsity"] = {"overall": 0.5, "layers": {"a": 0.5}}
    fake.results["met"] = fake.results[last] | {
        "sparsity": {"overall": 0.6001, "layers": {"a": 0.6001}}
    }
    records = [
        record(OWN, 80.0, [shared, last]),
        record("t0/sst2/bert_base/obert/60", 85.0, [shared, "met"]),
    ]
    report = build(fake, fake, records)
    assert [words.neighbours.pruned(row) for row in report["neighbours"]] == [
        "50.0 (60 asked for)",
        "60",
    ]
    (entry,) = report["cells"]
    assert (entry["sparsity"], entry["measured_sparsity"]) == (0.6, 0.5)
    assert "50.0 % of the prunable weights are zero; 60 % was asked for" in entry["notes"]


def dense_of_seed(fake, seed, accuracy):
    """A dense model of its own seed, on record."""
    shared = fake.cells[OWN].stages[0]
    name = f"dense {seed}"
    fake.stages[name] = replace(fake.stages[shared], id=name, seed=seed)
    fake.results[name] = fake.results[shared] | {"metrics": {"accuracy": accuracy}}
    return name


def test_each_seed_is_measured_against_the_dense_model_it_is_made_from():
    fake = own_sweep()
    shared, last = fake.cells[OWN].stages
    two, three = dense_of_seed(fake, 2, 80.0), dense_of_seed(fake, 3, 70.0)
    said = {"settings": ["vary=all"]}
    fake.finish(OWN, 1, accuracy=81.0)
    records = [
        record(OWN, 81.0, [shared, last]) | said,
        record(OWN, 72.0, [two, "b"], seed=2) | said,  # none of it is of this request
        record("t0/sst2/bert_base/obert/60", 70.0, [two, shared, "c"]),  # the last of two
        record("t5/sst2/bert_base/platon/90", 35.0, ["x", "d"], seed=3, level=0.9),
        record("t5/sst2/bert_base/platon/90", 45.0, [shared, "e"], seed=1, level=0.9),
        record(DENSE, 90.0, [shared], level=0.0),
        record(DENSE, 70.0, [three], level=0.0, seed=3),
        record(DENSE, 10.0, [three], level=0.0, seed=3) | {"settings": ["method.damp=1"]},
    ]
    rows = {
        row["method"]: row for row in build(fake, fake, records)["neighbours"] if row["sparsity"]
    }
    assert rows["mine"]["seeds"] == [1, 2]
    assert rows["mine"]["recovery"] == (81 + 72) / (90 + 80)
    assert rows["obert"]["recovery"] == 70 / 90
    assert rows["platon"]["recovery"] == (35 + 45) / (70 + 90)  # one's row, one's own


def test_what_another_preset_made_is_no_further_seed():
    fake = own_sweep()
    shared, last = fake.cells[OWN].stages
    other = replace(fake.stages[last], identity={"recipe": {"epochs": 1}, "seed": 2})
    fake.stages["other"] = other
    fake.stages["same"] = replace(
        fake.stages[last], identity={"seed": 3, "parents": {"start": "y"}}
    )
    name = "t5/sst2/bert_base/obert/90"
    records = [
        record(OWN, 80.0, [shared, last]),
        record(name, 85.0, [shared, last], level=0.9),
        record(name, 20.0, ["other"], seed=2, level=0.9),
        record(name, 86.0, ["same"], seed=3, level=0.9),
    ]
    rows = [(r["id"], r["seeds"]) for r in build(fake, fake, records)["neighbours"]]
    assert rows == [(OWN, [1]), (name, [1, 3])]


def test_rows_of_two_versions_are_told_apart_by_them():
    fake = own_sweep()
    shared, last = fake.cells[OWN].stages
    one, two = {"version": 2}, {"version": 2, "method_version": 2}
    for name, method, identity in (
        (last, "mine", one),
        ("mine 2", "mine", two),
        ("random", "random", one),
        ("old random", "random", {}),
    ):
        tags = {"task": "sst2", "sparsity": "60", "method": method}
        fake.stages[name] = replace(fake.stages[last], id=name, tags=tags, identity=identity)
    fake.stages[shared] = replace(fake.stages[shared], identity=one)
    random = "t0/sst2/bert_base/random/60"
    records = [
        record(OWN, 80.0, [shared, last]),
        record(OWN, 60.0, [shared, "mine 2"]),
        record(random, 50.0, [shared, "random"]),
        record(random, 40.0, [shared, "old random"]),
    ]
    rows = [(r["method"], r["settings"]) for r in build(fake, fake, records)["neighbours"]]
    assert rows == [
        ("mine", ["version=2", "method_version=1"]),
        ("mine", ["version=2", "method_version=2"]),
        ("random", ["version=2"]),
        ("random", ["version=1+2"]),
    ]
    rows = [r["settings"] for r in build(fake, fake, records[:3:2])["neighbours"]]
    assert rows == [[], []]


def test_another_presets_dense_model_is_no_measure():
    """Both presets' cells of the document stand in one store, with the same ids and seed."""
    fake = own_sweep()
    shared, last = fake.cells[OWN].stages
    platon = "t5/sst2/bert_base/platon/90"
    demo, paper = {"request": ["preset=demo"]}, {"request": ["preset=paper"]}
    records = [
        record(OWN, 80.0, [shared, last]) | demo,
        record(DENSE, 50.0, ["other dense"], level=0.0) | paper,
        record(DENSE, 90.0, ["the dense"], level=0.0) | demo,
        record(platon, 45.0, [shared, "x"], level=0.9) | demo,
        record(platon, 40.0, [shared, "y"], level=0.9) | paper,
    ]
    fake.stages["x"] = replace(fake.stages[last], id="x", tags={"task": "sst2", "sparsity": "90"})
    fake.stages["y"] = replace(fake.stages["x"], id="y", identity={"recipe": {"epochs": 1}})
    fake.stages[shared].tags["sparsity"] = "90"  # none of them is made from a dense model
    rows = build(fake, fake, records)["neighbours"]
    said = {tuple(r["settings"]): r["recovery"] for r in rows if r["id"] == platon}
    assert said == {("preset=demo",): 45 / 90, ("preset=paper",): 40 / 50}


def test_a_last_stage_that_was_run_again_counts_as_it_came_out_then():
    fake = own_sweep()
    shared, last = fake.cells[OWN].stages
    records = [record(OWN, 1.0, [shared, last]), record("t0/sst2/bert_base/x/60", 2.0, [shared])]
    rows = {r["id"]: r["measured"] for r in build(fake, fake, records)["neighbours"]}
    assert rows[OWN] == {"accuracy": 80.0}  # as its result says


def test_rows_of_another_machine_are_warned_of():
    fake = own_sweep()
    shared, last = fake.cells[OWN].stages
    fake.results["x"] = fake.results[last] | {"environment": {"host": "b", "gpu": "H100"}}
    fake.results[last]["environment"] = {"host": "a", "gpu": "A100"}
    other = record("t0/sst2/bert_base/obert/60", 85.0, [shared, "x"])
    report = build(fake, fake, [record(OWN, 80.0, [shared, last]), other])
    assert report["environment"]["warnings"] == [
        "what stands beside one's own cells on sst2 mixes gpu: A100, H100"
    ]
    assert build(fake, fake, [other])["environment"]["warnings"] == []


def test_a_row_has_the_deviation_over_its_seeds():
    fake = own_sweep()
    shared, last = fake.cells[OWN].stages
    records = [
        record(OWN, 80.0, [shared, last]),
        record("t0/sst2/bert_base/obert/60", 85.0, [shared, "x"]),
        record("t0/sst2/bert_base/obert/60", 87.0, [shared, "y"], seed=2),
    ]
    report = build(fake, fake, records)
    assert [words.neighbours.scores(row) for row in report["neighbours"]] == ["86.00±1.41", "80.00"]
    assert "86.00±1.41" in html(report) and "86.00±1.41" in markdown(report)


def test_an_own_cell_alone_has_its_dense_score_and_recovery():
    fake = own_sweep()
    plan, shared = fake.cells[OWN], fake.cells[OWN].stages[0]
    two = dense_of_seed(fake, 2, 80.0)
    last = replace(fake.stages[plan.stages[1]], id="last", seed=2, parents={"start": two})
    fake.stages["last"] = last
    plan.stages += [two, "last"]
    plan.finals[2] = "last"
    (entry,) = build(fake, fake)["cells"]
    assert (entry["dense"], entry["recovery"]) == (90.0, 80 / 90)  # the second is not finished
    fake.finish(OWN, 2, accuracy=72.0)
    report = build(fake, fake)
    (entry,) = report["cells"]
    assert (entry["dense"], entry["recovery"]) == (85.0, 76 / 85) and report["neighbours"] == []
    assert "89.4% of 85.00" in html(report) and "89.4% of 85.00" in markdown(report)
    for dense in (shared, two):
        fake.stages[dense].tags["sparsity"] = "60"
    (entry,) = build(fake, fake)["cells"]
    assert (entry["dense"], entry["recovery"]) == (None, None)
