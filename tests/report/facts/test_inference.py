"""What the report says of engines and sizes, from results written out by hand."""

from __future__ import annotations

import csv
import io
import re

import pytest
from report.fake_inference import CELL, MISSING, WRONG, add_inference, figure, side, times
from report.fake_sweep import FakeSweep, sweep

from obert_sweeps.report.build import build
from obert_sweeps.report.pages.files import write
from obert_sweeps.report.pages.html import html
from obert_sweeps.report.pages.markdown import markdown


def measured() -> FakeSweep:
    fake = sweep(seeds=(1,), stand_in=True)
    fake.finish_as_published({1: 0.0})
    add_inference(fake)
    return fake


def test_each_figure_is_told_with_its_engine_and_machine() -> None:
    fake = measured()
    (entry,) = build(fake, fake)["inference"]["benchmarks"]
    assert (entry["stage"], entry["cells"], entry["fastest"]) == ("benchmark", [CELL], "openvino")
    assert entry["machine"]["cpu"] == "Some CPU" and entry["threads"] == 2
    large, small = entry["rows"]
    assert (large["batch"], large["length"], large["ms"], large["dense_ms"]) == (
        128,
        384,
        250,
        1000,
    )
    assert (large["speedup"], large["cpu_speedup"], large["integer_share"]) == (4.0, 1.5, 0.75)
    assert large["throughput"] == pytest.approx(128 / 250)
    assert (small["p95_ms"], small["dense_p95_ms"]) == (15.0, 20.0)
    assert large["metrics"] == {"f1": 90.25, "em": None} and large["flags"] == {"hint": "f32"}
    assert entry["absent"] == [
        {"engine": "deepsparse", "what": "missing", "reason": MISSING},
        {"engine": "onnxruntime", "what": "wrong", "reason": WRONG},
    ]


def test_people_read_the_same_on_the_page_and_in_markdown() -> None:
    fake = measured()
    report = build(fake, fake)
    page, text = html(report), markdown(report)
    plain = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    for told in (
        "openvino 2026.4",
        "model.qdq.onnx",
        "128 × 384",
        "1,000.00 (2,000.00)",
        "250.00 (750.00)",
        "4.00x",
        "1.50x",
        "75%",
        "F1 90.25",
        "Some CPU, 2 threads; after 3 warm-ups the median of 7",
        "2026.4-long-build; hint=f32",
        f"deepsparse was missing: {MISSING}",
        "installed since: delete the folder stages/benchmark of the store and run the same command",
        "32.50x",  # as the document counts
        "30.00x",  # like by like
        "39.000",
    ):
        assert told in plain and told in text, told
    assert "onnxruntime was wrong: its logits" in plain and "<b>far" not in page
    assert 'href="#inference"' in page and "<b>far" not in text


def test_a_dense_model_alone_has_its_own_times_and_no_ratio() -> None:
    fake = measured()
    (row, *_) = fake.results["benchmark"]["benchmark"]["engines"]
    del row["compressed"]
    row["figures"] = [{"batch": 128, "length": 384, "dense": times(1000.0, 2000.0, 128)}]
    (entry,) = build(fake, fake)["inference"]["benchmarks"]
    (found,) = entry["rows"]
    assert (found["ms"], found["dense_ms"], found["speedup"]) == (1000.0, None, None)
    assert found["file"] == "model.onnx"
    assert "| – | 1,000.00 (2,000.00) |" in markdown(build(fake, fake))


def test_the_same_engine_in_two_ways_is_told_apart() -> None:
    fake = measured()
    engines = fake.results["benchmark"]["benchmark"]["engines"]
    ways = []
    for compiled in (True, False):
        told = side("2.13", "model.safetensors", None, precision="fp16", compiled=compiled)
        shapes = [figure(1, 4.0, 2.0)]
        ways.append({"engine": "torch-2of4", "dense": told, "compressed": told, "figures": shapes})
    engines[:] = ways
    text = markdown(build(fake, fake))
    assert "torch-2of4, fp16, compiled 2.13" in text and "torch-2of4, fp16, eager 2.13" in text


def test_the_sheet_has_a_row_an_engine_and_shape(tmp_path) -> None:
    fake = measured()
    write(build(fake, fake), tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "inference.csv").read_text())))
    assert [row["engine"] for row in rows] == ["openvino"] * 2 + ["deepsparse", "onnxruntime"]
    assert float(rows[0]["speedup"]) == 4.0 and rows[0]["metrics"] == "f1=90.25"
    assert (rows[2]["missing"], rows[2]["ms"], rows[3]["wrong"]) == (MISSING, "", WRONG)
    assert {row["cpu"] for row in rows} == {"Some CPU"}


def test_without_a_benchmark_there_is_no_section_and_the_reason_stands_in_the_table() -> None:
    fake = sweep(seeds=(1,), stand_in=True)
    fake.finish_as_published({1: 0.0})
    fake.finish("t1/squad/bert_base/obert/2of4", 1, f1=80.0, em=70.0)
    report = build(fake, fake)
    assert report["inference"] == {"benchmarks": [], "sizes": []}
    page = html(report)
    assert 'id="inference"' not in page and "## Inference" not in markdown(report)
    assert re.search(r"not measured<br><small>no GPU: [^<]*2:4[^<]*cluster.gpus_per_stage=1", page)
