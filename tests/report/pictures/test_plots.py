"""Plots on a whole document: which panels there are, what they say, how they sit in a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from report.fake_sweep import sweep

from obert_sweeps.report.build import build
from obert_sweeps.report.facts.one_shot import Setting
from obert_sweeps.report.facts.traces import Traces
from obert_sweeps.report.pictures.figures import figures
from obert_sweeps.report.pictures.panel import GRID, INK, panel


@pytest.fixture(scope="module")
def report():
    fake = sweep(seeds=(1, 2))
    fake.finish_as_published({1: -0.1, 2: 0.1})
    return build(fake, fake)


@pytest.fixture(scope="module")
def drawn(report):
    name = "t5/sst2/bert_base/obert/90"
    traces = Traces(
        curves={name: {"score": [(1.0, 80.0), (2.0, 92.0)], "loss": [(0.5, 1.0), (2.0, 0.25)]}},
        layers={
            name: {"layer.0.query": 0.85, "layer.1.query": 0.95},
            "t5/sst2/bert_base/platon/90": {
                "layer.0.query": 0.9,
                "layer.1.query": 0.9,
                "pool": 0.8,
            },
            "t5/sst2/bert_base/l0/90": {},  # the stage it starts from diverged
        },
        one_shot={
            ("sst2", "bert_base", "unstructured", "x"): {
                Setting("obert"): {0.0: 92, 0.5: 91, 0.8: 70},
                Setting("obert", "method.damp=0.1"): {0.0: 92, 0.5: 81, 0.8: 60},
            }
        },
    )
    return {figure.id: figure for figure in figures(report, traces)}


def test_there_is_a_figure_for_each_question(drawn):
    assert list(drawn) == [
        *("recovery", "against-sparsity", "against-cost", "one-shot", "by-layer"),
        *("scores", "losses"),
    ]
    by_task = [p.title for p in drawn["against-sparsity"].panels]
    assert len(by_task) == 3 + 2 + 7 and "Table 5, CoLA: Mcc" in by_task
    assert [len(drawn[n].panels) for n in ("recovery", "one-shot", "by-layer", "scores")] == [
        5, 1, 1, 1,
    ]  # fmt: skip


def test_curves_of_two_dense_models_are_told_apart(report):
    """Such as two presets' in one store."""
    points = {Setting("obert"): {0.0: 92.0, 0.5: 91.0, 0.8: 70.0}}
    curves = {("sst2", "bert_base", "2of4", start): points for start in ("demo's", "small's")}
    one = ("qnli", "bert_base", "2of4", "x")
    drawn = {f.id: f for f in figures(report, Traces(one_shot=curves | {one: points}))}
    titles = [p.title.partition("2of4: ")[2] for p in drawn["one-shot"].panels]
    assert titles == ["Acc, from demo's", "Acc, from small's", "Acc"]


def test_a_cell_without_a_model_has_no_row_of_layers(drawn):
    (layers,) = drawn["by-layer"].panels
    assert "PLATON" in layers.svg and "l0 reg" not in layers.svg


def test_a_curve_needs_more_than_one_level(report):
    lines = {Setting("obert"): {0.0: 92, 0.5: 80}}
    traces = Traces(one_shot={("sst2", "bert_base", "2of4", "x"): lines})
    assert "one-shot" not in {figure.id for figure in figures(report, traces)}


def test_panels_say_in_words_what_they_show(drawn):
    (layer,) = drawn["by-layer"].panels
    assert "oBERT 90 from 85 to 95 %" in name_of(layer)
    assert "PLATON 90 from 80 to 90 %" in name_of(layer)  # although it prunes a matrix more
    (once,) = drawn["one-shot"].panels
    assert "oBERT method.damp=0.1 92.0 at 0 %, 81.0 at 50 %" in name_of(once)
    (score,) = drawn["scores"].panels
    assert "oBERT ends at 92" in name_of(score)
    cola = next(p for p in drawn["against-sparsity"].panels if "CoLA" in p.title)
    assert "PLATON 44.30 at 90 %" in name_of(cola)
    assert "Movement" not in name_of(cola)  # did not converge: it has no accuracy


def test_panels_are_svg_that_shares_a_page(drawn):
    panels = [p for figure in drawn.values() for p in figure.panels]
    seen: set[str] = set()
    for one in panels:
        tree = ElementTree.fromstring(
            one.svg.replace("<svg", '<svg xmlns:xlink="http://www.w3.org/1999/xlink"', 1)
        )
        ids = {node.get("id") for node in tree.iter() if node.get("id")}
        assert not ids & seen
        seen |= ids
        wanted = set(re.findall(r'(?:href="|url\()#([^")]+)', one.svg))
        assert wanted <= ids
        assert INK not in one.svg and GRID not in one.svg and "currentColor" in one.svg
        assert "<style" not in one.svg  # it would hold for the whole page


def test_names_cannot_break_out_of_the_page():
    nasty = '"><script>alert(1)</script>'
    found = panel("k", nasty, nasty, lambda axes: None)
    assert "<script" not in found.svg


def name_of(one):
    return re.search(r'aria-label="([^"]*)"', one.svg)[1]
