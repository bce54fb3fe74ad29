"""What ran where and when, and how long the workers stood idle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle

from ..facts.traces import Span

_COLOURS = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#a08000", "#8c8c8c"),
    *("#7b5ea7", "#44aa99", "#882255", "#6699cc"),
)

PAUSE_SECONDS = 60.0  # nothing running anywhere for so long is a pause between runs, not idling
OVERLAP_SECONDS = 1.0  # saving a model is part of a stage's time but comes after its last record


@dataclass
class Lane:
    """A place that runs one stage at a time: a worker, as far as the times tell."""

    host: str
    bars: list[tuple[Span, float, float]] = field(default_factory=list)  # start, end on the axis


@dataclass
class Timeline:
    """Times on the axis are seconds since the first start, pauses between runs cut out."""

    lanes: list[Lane]
    length: float
    pauses: list[tuple[float, float]]  # where on the axis, how many seconds were cut out
    busy: float  # worker-seconds in stages
    idle: float  # worker-seconds between a lane's first start and the end, without a stage
    colours: dict[str, str]  # kind of stage -> its colour; of more kinds than colours some share


def timeline(spans: Sequence[Span]) -> Timeline | None:
    """Lanes by host, each filled by the next stage that fits; None without spans."""
    if not spans:
        return None
    ordered = sorted(spans, key=lambda span: (span.start, span.end))
    starts, pauses = _axis(ordered)
    lanes: list[Lane] = []
    for span, begin in zip(ordered, starts, strict=True):
        finish = begin + (span.end - span.start)
        slack = min(OVERLAP_SECONDS, 0.2 * (finish - begin))
        free = [
            lane for lane in lanes if lane.host == span.host and lane.bars[-1][2] <= begin + slack
        ]
        # The lane that was left last: idle lanes then stay idle, as idle workers do.
        lane = max(free, key=lambda lane: lane.bars[-1][2], default=None)
        if lane is None:
            lane = Lane(span.host)
            lanes.append(lane)
        lane.bars.append((span, begin, finish))
    lanes.sort(key=lambda lane: (lane.host, lane.bars[0][1]))
    length = max(end for lane in lanes for _, _, end in lane.bars)
    busy = sum(end - begin for lane in lanes for _, begin, end in lane.bars)
    there = sum(length - lane.bars[0][1] for lane in lanes)
    kinds = dict.fromkeys(span.kind for span in spans)
    colours = dict(zip(kinds, cycle(_COLOURS), strict=False))
    return Timeline(lanes, length, pauses, busy, max(0.0, there - busy), colours)


def _axis(ordered: Sequence[Span]) -> tuple[list[float], list[tuple[float, float]]]:
    """Where each span starts on the axis, and the pauses that were cut out."""
    starts: list[float] = []
    pauses: list[tuple[float, float]] = []
    origin = reached = ordered[0].start
    for span in ordered:
        gap = span.start - reached
        if gap > PAUSE_SECONDS:
            pauses.append((reached - origin, gap))
            origin += gap
        starts.append(span.start - origin)
        reached = max(reached, span.end)
    return starts, pauses
