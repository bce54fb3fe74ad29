"""A method of one's own beside its competitors in the same store."""

from __future__ import annotations

from dataclasses import replace

from report.fake_sweep import sweep

from obert_sweeps.catalogue.tables import cells
from obert_sweeps.report import build
from obert_sweeps.report.html import html
from obert_sweeps.report.markdown import markdown

DENSE, OWN = "t5/sst2/bert_base/dense", "t0/sst2/bert_base/mine/60"


def own_sweep():
    """One cell of the user's own, which starts from the dense model of table 5."""
    fake = sweep(seeds=(1,))
    base = next(c for c in cells() if c.id == "t5/sst2/bert_base/obert/90")
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


def test_nobody_to_compare_with_is_no_table():
    fake = own_sweep()
    assert build(fake, fake, [record(OWN, 80.0, fake.cells[OWN].stages)])["neighbours"] == []
    assert build(sweep(seeds=(1,)), fake, [])["neighbours"] == []
    assert "Beside" not in markdown(build(fake, fake))
