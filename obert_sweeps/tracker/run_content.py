"""What a W&B run says of a stage, a cell or a report: plain data, made of what the store holds.

The run that is written while a stage trains and the one that `sync` makes of the store's files both
come from here, so they cannot differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..schema import Stage
from .mask_page import mask_page

_TAG_LENGTH = 64  # W&B refuses longer ones
_NOT_PLOTTED = frozenset({"step", "epoch", "steps", "epochs", "time", "metrics"})
_SUMMARY = (
    *("metrics", "final_metrics", "best_epoch", "rates", "cost", "environment", "reason"),
    *("sizes", "engine", "benchmark"),  # of exports and benchmarks
)
_IN_THE_TABLE = ("measured", "published", "sd")


@dataclass(frozen=True)
class Ending:
    """How a run ends. `media`: by key, {"html": page} or {"values": numbers for a histogram}."""

    summary: dict[str, Any]
    exit_code: int = 0
    media: dict[str, dict[str, Any]] | None = None
    step: int | None = None  # where the media stand
    time: float | None = None
    table: dict[str, Any] | None = None  # {"columns", "rows"}: the cells of a report
    files: tuple[str, ...] = ()  # of a report, as an artifact


def cell_run_id(record: Mapping[str, Any]) -> str:
    """The run id of a cell and seed, as made of the stages named in `record`.

    The stages are part of it: the same cell under another preset or budget is another result.
    """
    stages = record.get("stages") or []
    ids = sorted(stages.values() if isinstance(stages, dict) else stages)
    return "cell-" + _hash([record["id"], record.get("seed"), ids])


def report_run_id(report: Mapping[str, Any]) -> str:
    """The run id of a report: the same for the same cells and stages, however far they are."""
    made_of = sorted([cell["id"], sorted(cell["finals"].values())] for cell in report["cells"])
    return "report-" + _hash(made_of)


def _hash(key: Any) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]


def stage_opening(stage: Stage) -> dict[str, Any]:
    """id, name, group, job_type, tags and config of a stage's run: of its recipe alone."""
    return {
        "id": stage.id,  # hexadecimal, so legal there
        "name": stage.name,
        "group": f"{stage.tags.get('task', '?')}/{stage.tags.get('model', '?')}",
        "job_type": stage.tags.get("role") or str(stage.recipe.get("kind", "stage")),
        "tags": _tags(stage.tags.get(key) for key in ("task", "model", "method", "sparsity")),
        "config": stage.recipe
        | {
            "stage": stage.id,
            "seed": stage.seed,
            "parents": stage.parents,
            "stand_in": stage.stand_in,
            "notes": stage.notes,
        },
    }


def history_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of metrics.jsonl in W&B's names: step, epoch, train/<name>, eval/<metric>."""
    row: dict[str, Any] = {key: record[key] for key in ("step", "epoch") if key in record}
    for name, value in record.items():
        if name not in _NOT_PLOTTED and isinstance(value, int | float):
            row[f"train/{name}"] = value
    for name, value in (record.get("metrics") or {}).items():
        row[f"eval/{name}"] = value
    if row and "time" in record:
        row["_timestamp"] = record["time"]  # else W&B takes the time of writing
    return row


def stage_ending(result: Mapping[str, Any]) -> Ending:
    """`result`: a stage's result.json, or {"status": "failed" or "interrupted", "reason": …}."""
    status = str(result.get("status") or ("failed" if "reason" in result else "done"))
    summary = {"status": status} | {key: result[key] for key in _SUMMARY if key in result}
    sparsity = result.get("sparsity") or {}
    if "overall" in sparsity:
        summary["sparsity"] = sparsity["overall"]
    media: dict[str, dict[str, Any]] | None = None
    if sparsity.get("overall"):
        layers = [share for share in sparsity["layers"].values() if share is not None]
        media = {
            "masks/by_layer": {"html": mask_page(sparsity)},
            "masks/sparsity_of_matrices": {"values": layers},
        }
    ended = status in ("done", "not_converged")
    return Ending(summary, 0 if ended else 1, media, result.get("steps"), result.get("finished"))


def cell_opening(record: Mapping[str, Any]) -> dict[str, Any]:
    """As `stage_opening`, of the record that `Tracker.cell` is given."""
    known = ("table", "task", "model", "method", "sparsity", "seed", "stages")
    level = record.get("sparsity")
    if isinstance(level, int | float):
        level = f"{100 * level:g}" if level else "dense"
    return {
        "id": cell_run_id(record),
        "name": record["id"],
        "group": f"table {record.get('table')}",
        "job_type": "cell",
        "tags": _tags([*(record.get(key) for key in ("task", "model", "method")), level]),
        "config": {"cell": record["id"]} | {key: record.get(key) for key in known},
    }


def cell_ending(record: Mapping[str, Any]) -> Ending:
    """What was measured, beside what is published."""
    return Ending({k: record.get(k) for k in ("measured", "published", "difference", "verdict")})


def report_opening(report: Mapping[str, Any]) -> dict[str, Any]:
    """As `stage_opening`, of a report.json."""
    return {
        "id": report_run_id(report),
        "name": "measured beside published",
        "group": "report",
        "job_type": "report",
        "tags": _tags(f"table {t}" for t in sorted({c["table"] for c in report["cells"]})),
        "config": {"cells": {c["id"]: c["finals"] for c in report["cells"]}},
    }


def report_ending(report: Mapping[str, Any], files: Mapping[str, str]) -> Ending:
    """`files`: path -> digest, of the report's files."""
    verdicts: dict[str, int] = {}
    for entry in report["cells"]:
        verdicts[entry["verdict"]] = verdicts.get(entry["verdict"], 0) + 1
    claims = {claim["id"]: claim["verdict"] for claim in report.get("claims") or []}
    columns = ["cell", "metric", *_IN_THE_TABLE, "recovery", "published_recovery", "verdict"]
    rows = [
        [
            entry["id"],
            metric,
            *(_number((entry.get(of) or {}).get(metric)) for of in _IN_THE_TABLE),
            _number(entry.get("recovery")),
            _number(entry.get("published_recovery")),
            entry["verdict"],
        ]
        for entry in report["cells"]
        for metric in dict.fromkeys([*entry["published"], *entry["measured"]])
    ]
    summary = {"verdicts": verdicts, "claims": claims, "files": dict(sorted(_names(files).items()))}
    table = {"columns": columns, "rows": rows}
    return Ending(summary, step=0, table=table, files=tuple(sorted(files)))


def _names(files: Mapping[str, str]) -> dict[str, str]:
    return {path.rpartition("/")[2]: digest for path, digest in files.items()}


def _number(value: Any) -> float | None:
    """A column of a W&B table has one type."""
    return None if value is None else float(value)


def _tags(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(value)[:_TAG_LENGTH] for value in values if value))
