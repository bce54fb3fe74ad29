"""Reads what W&B writes offline: LevelDB's log framing around protobuf records.

A file is a 7-byte head, then blocks of 32 KiB of chunks: checksum (4 bytes), length (2), kind (1),
bytes; kind 1 is a whole record, 2, 3 and 4 its first, middle and last part.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK = 32 * 1024
_CHUNK = struct.Struct("<IHB")


def records(path: Path) -> Iterator[Any]:
    """The records of one `run-<id>.wandb`; a torn tail ends them."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, record = path.read_bytes(), 7, b""
    while at + _CHUNK.size <= len(data):
        if (left := _BLOCK - at % _BLOCK) < _CHUNK.size:
            at += left  # padding
            continue
        _, length, kind = _CHUNK.unpack_from(data, at)
        at += _CHUNK.size
        if kind not in (1, 2, 3, 4) or at + length > len(data):
            return
        record = data[at : at + length] if kind in (1, 2) else record + data[at : at + length]
        at += length
        if kind in (1, 4):
            yield Record.FromString(record)


def read_runs(store: Path) -> dict[str, dict[str, Any]]:
    """W&B's runs under STORE/wandb by id; the folders of one id are merged, later ones winning.

    Each: id, name, project, group, job_type, tags, config, host, axes {metric: x metric},
    history {W&B step: row}, summary, exit_code (None after a kill), artifacts {name: paths in it},
    folders.
    """
    runs: dict[str, dict[str, Any]] = {}
    for path in sorted(store.glob("wandb/offline-run-*/run-*.wandb")):
        run: dict[str, Any] = {}
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run = runs.setdefault(record.run.run_id, {"history": {}, "axes": {}, "folders": []})
                run["folders"].append(path.parent.name)
                run["exit_code"], run["summary"], run["artifacts"] = None, {}, {}
                fields = record.run
                run |= {
                    "id": fields.run_id,
                    "name": fields.display_name,
                    "project": fields.project,
                    "group": fields.run_group,
                    "job_type": fields.job_type,
                    "tags": list(fields.tags),
                    "host": fields.host,
                    "config": _values(fields.config.update),
                }
            elif kind == "metric":
                run["axes"][record.metric.name or record.metric.glob_name] = (
                    record.metric.step_metric
                )
            elif kind == "history":
                row = _values(record.history.item)
                run["history"][row["_step"]] = row
            elif kind == "artifact":
                contents = record.artifact.manifest.contents
                run["artifacts"][record.artifact.name] = {entry.path for entry in contents}
            elif kind == "summary":
                run["summary"] |= _values(record.summary.update)
            elif kind == "exit":
                run["exit_code"] = record.exit.exit_code
    return runs


def finished_runs(store: Path, timeout: float = 10.0) -> dict[str, dict[str, Any]]:
    """`read_runs`, once every run has ended: W&B's service closes a file just after `finish`."""
    deadline = time.monotonic() + timeout
    while True:
        runs = read_runs(store)
        folders = {path.name for path in store.glob("wandb/offline-run-*")}
        seen = {name for run in runs.values() for name in run["folders"]}
        if seen == folders and all(run["exit_code"] is not None for run in runs.values()):
            return runs
        if time.monotonic() > deadline:
            raise TimeoutError(f"not ended under {store}: {sorted(folders)}")
        time.sleep(0.01)


def _values(items: Any) -> dict[str, Any]:
    return {
        item.key or ".".join(item.nested_key): json.loads(item.value_json or "null")
        for item in items
    }
