"""W&B's runs made again from what the store holds: each whole, in one folder, and none twice."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..schema import Stage
from .base import Rebuilder
from .run_content import (
    Ending,
    cell_ending,
    cell_opening,
    history_row,
    report_ending,
    report_opening,
    stage_ending,
    stage_opening,
)
from .told import Told, Written, drop, written
from .wandb_run import WandbRun, forget_service


class WandbRebuilder(Rebuilder):
    """Writes the runs of `store` that are not there, not whole, or tell something else.

    Offline a run is there when a folder of the store says so (`told.json`). Online it is there when
    it was uploaded from a folder of this store; what the server has of others is resumed, so a run
    is never there twice. What fails is raised, and leaves what was there before.
    """

    def __init__(
        self,
        store: str,
        *,
        project: str,
        entity: str | None,
        mode: str,
        runs_per_minute: float,
    ) -> None:
        self.store, self.mode = store, mode
        self.project, self.entity = project, entity
        self._pause = 60.0 / runs_per_minute if mode == "online" else 0.0
        self._next = 0.0
        self._folder = Path(store) / "wandb"
        self._written: dict[str, list[Written]] = {}
        for run in written(self._folder):
            self._written.setdefault(run.run, []).append(run)

    def stage(
        self, stage: Stage, records: Sequence[Mapping[str, Any]], result: Mapping[str, Any]
    ) -> bool:
        rows = [row for row in map(history_row, records) if row]
        return self._renew(stage_opening(stage), rows, stage_ending(result), axes=True)

    def cell(self, record: Mapping[str, Any]) -> bool:
        return self._renew(cell_opening(record), [], cell_ending(record))

    def report(self, folder: str) -> bool:
        files = {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(Path(folder).glob("report.*"))
        }
        report = json.loads((Path(folder) / "report.json").read_text())
        opening = report_opening(report)
        renewed = self._renew(opening, [], report_ending(report, files))
        for run, folders in self._written.items():  # the store keeps one report
            if run.startswith("report-") and run != opening["id"]:
                for old in folders:
                    drop(old.folder)
        return renewed

    def _renew(
        self,
        opening: Mapping[str, Any],
        rows: Sequence[Mapping[str, Any]],
        ending: Ending,
        axes: bool = False,
    ) -> bool:
        told = Told(opening)
        for row in rows:
            told.add(row)
        told.end(ending)
        there = self._written.get(told.run, [])
        keep = next((r for r in there if r.digest == told.digest and self._in_place(r)), None)
        if keep is None:
            self._wait()
            self._write(opening, rows, ending, axes)
        for old in there:
            if old is not keep:
                drop(old.folder)
        return keep is None

    def _in_place(self, run: Written) -> bool:
        return run.online or self.mode == "offline"

    def _write(
        self,
        opening: Mapping[str, Any],
        rows: Sequence[Mapping[str, Any]],
        ending: Ending,
        axes: bool,
    ) -> None:
        before = set(self._folder.glob("*"))
        run = None
        try:
            run = WandbRun(
                self.store, opening, project=self.project, entity=self.entity, mode=self.mode
            )
            if axes:
                run.axes()
            for row in rows:
                run.row(row)
            run.close(ending)
        except BaseException:
            if run is not None:
                run.whole = False
            with suppress(Exception):
                forget_service()
            for folder in set(self._folder.glob(f"*run-*-{opening['id']}")) - before:
                drop(folder)
            raise

    def _wait(self) -> None:
        """Bounded rate: the servers of W&B limit requests a minute, for all of a project."""
        now = time.monotonic()
        if now < self._next:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self._pause
