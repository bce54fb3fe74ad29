"""Which worker ran what, and how long workers stood idle."""

from __future__ import annotations

from dataclasses import replace

from obert_sweeps.report.facts.traces import Span
from obert_sweeps.report.pictures.timeline import timeline


def span(name, start, end, host="a"):
    return Span(name, name, "dense", host, float(start), float(end), False)


def test_the_timeline_packs_stages_into_workers():
    found = timeline([span("x", 0, 10), span("y", 2, 6), span("z", 6, 12), span("w", 0, 8, "b")])
    lanes = [(lane.host, [bar[0].stage for bar in lane.bars]) for lane in found.lanes]
    assert lanes == [("a", ["x"]), ("a", ["y", "z"]), ("b", ["w"])]
    assert (found.length, found.busy) == (12.0, 10 + 4 + 6 + 8)
    # x's worker is idle for 2 s at the end, y's never after its start, w's for 4 s.
    assert found.idle == 2 + 0 + 4


def test_pauses_between_runs_are_cut_out():
    found = timeline([span("x", 1000, 1010), span("y", 5000, 5010)])
    (lane,) = found.lanes
    assert [(start, end) for _, start, end in lane.bars] == [(0.0, 10.0), (10.0, 20.0)]
    assert found.pauses == [(10.0, 3990.0)] and (found.busy, found.idle) == (20.0, 0.0)


def test_a_wait_within_a_run_is_idle_time():
    found = timeline([span("x", 0, 10), span("y", 40, 50)])
    assert found.pauses == [] and found.idle == 30.0
    assert timeline([]) is None


def test_every_kind_of_stage_has_a_colour_of_its_own_as_far_as_they_go():
    spans = [replace(span(f"s{k}", k, k + 1), kind=f"kind {k % 15}") for k in range(20)]
    colours = timeline(spans).colours
    assert list(colours) == [f"kind {k}" for k in range(15)]
    assert len({*list(colours.values())[:12]}) == 12
