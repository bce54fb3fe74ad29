"""What the plots need beyond the report's numbers, read from the stages' folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...schema import Stage
from .lineage import own_stages
from .one_shot import Curve, Points, Setting, one_shot_curves
from .views import CellView, Folder, PlanView, StagesView

POINTS = 150  # of a curve; a paper-scale stage has thousands of records

Line = list[tuple[float, float]]


@dataclass(frozen=True)
class Span:
    """When a stage ran, in seconds since the epoch, and where."""

    stage: str
    name: str
    kind: str
    host: str
    start: float
    end: float
    resumed: bool  # it was interrupted: earlier attempts took time too


@dataclass
class Traces:
    """By cell id, of its first finished seed: `curves` ("score" and "loss" over epochs on the
    cell's task) and `layers` (matrix -> share that is zero)."""

    curves: dict[str, dict[str, Line]] = field(default_factory=dict)
    layers: dict[str, dict[str, float]] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    one_shot: dict[Curve, dict[Setting, Points]] = field(default_factory=dict)


def read_traces(plan: PlanView, store: StagesView) -> Traces:
    """Traces of the selected cells; one-shot curves of all that the store holds."""
    found = Traces(one_shot=one_shot_curves(store))
    selected = [cell for cell in plan.cells.values() if cell.selected]
    for cell in selected:
        final = next((i for i in cell.finals.values() if store.result(i)), None)
        if final is None:
            continue
        name = cell.cell.id
        found.curves[name] = _curves(own_stages(cell, final, plan), cell, store)
        found.layers[name] = ((store.result(final) or {}).get("sparsity") or {}).get("layers") or {}
    for stage_id in dict.fromkeys(i for cell in selected for i in cell.stages):
        if stage_id in plan.stages and (span := _span(plan.stages[stage_id], store)) is not None:
            found.spans.append(span)
    return found


def _curves(own: Sequence[Stage], cell: CellView, store: StagesView) -> dict[str, Line]:
    """Of the stages on the cell's task, one after the other."""
    lines: dict[str, Line] = {"score": [], "loss": []}
    before = 0.0
    for stage in (stage for stage in own if stage.tags.get("task") == cell.cell.task):
        for record in records(store.folder(stage.id)):
            x = before + float(record.get("epoch", 0.0))
            score, loss = (record.get("metrics") or {}).get(cell.metric), record.get("loss")
            if score is not None:
                lines["score"].append((x, score))
            if loss is not None:
                lines["loss"].append((x, loss))
        before += float(stage.recipe.get("training", {}).get("epochs", 0.0))
    return lines


def records(folder: Folder) -> list[dict[str, Any]]:
    """At most POINTS evaluations and as many other records, evenly chosen, in their order."""
    lines = folder.record_lines()
    evaluations = [b'"metrics"' in line for line in lines]
    chosen = sorted(
        _evenly([i for i, e in enumerate(evaluations) if e])
        + _evenly([i for i, e in enumerate(evaluations) if not e])
    )
    found = []
    for i in chosen:
        try:
            record = json.loads(lines[i])
        except ValueError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


def _evenly(indices: list[int]) -> list[int]:
    """At most POINTS of them, the last one among them."""
    if len(indices) <= POINTS:
        return indices
    step = (len(indices) - 1) / (POINTS - 1)
    return [indices[round(k * step)] for k in range(POINTS)]


def _span(stage: Stage, store: StagesView) -> Span | None:
    """Its last attempt; `resumed` where it cost more than that, in earlier ones.

    Of a result without these times: from its last record back by what it cost.
    """
    result = store.result(stage.id)
    if result is None:
        return None
    seconds = float((result.get("cost") or {}).get("seconds") or 0.0)
    start, end = result.get("started"), result.get("finished")
    if start is None or end is None:
        last = store.folder(stage.id).last_record() or {}
        if "time" not in last:
            return None
        start, end = float(last["time"]) - seconds, float(last["time"])
    resumed = seconds > end - start + 1.0
    host = str((result.get("environment") or {}).get("host") or "?")
    return Span(stage.id, stage.name, stage.role_group, host, start, end, resumed)
