"""W&B as the view of the store: a run a stage, and one light run a cell and seed.

While stages train, runs are written to files only, whatever `mode` is: no network can hold up or
fail a stage. `mode=online` uploads them from the driver's side (`WandbRebuilder`).

Nothing here may fail a stage: W&B that fails to start is not tried again in this process, and every
kind of trouble is logged once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ..schema import Interrupted, RequestError, Stage
from .base import Tracker
from .run_content import (
    Ending,
    cell_ending,
    cell_opening,
    history_row,
    stage_ending,
    stage_opening,
)
from .wandb_rebuild import WandbRebuilder
from .wandb_run import WandbRun

_log = logging.getLogger(__name__)
_MODES = ("offline", "online")

# Of this process: kinds of trouble already reported, stage runs not yet ended. W&B that did not
# start is one kind of trouble, and not tried again.
_reported: set[str] = set()
_open: list[WandbRun] = []
_START = "run"


class WandbTracker(Tracker):
    """Runs in W&B `project` of `entity`, in files of the store.

    `mode`: offline, or online, where `run` and `sync` upload what has ended, one run at a time and
    at most `runs_per_minute`.
    """

    def __init__(
        self,
        *,
        project: str = "obert-sweeps",
        entity: str | None = None,
        mode: str = "offline",
        runs_per_minute: float = 20.0,
    ) -> None:
        if mode not in _MODES:
            raise RequestError(
                f"tracker.mode={mode!r} is not a way W&B can run here; "
                "use tracker.mode=offline, tracker.mode=online or tracker=none"
            )
        if runs_per_minute <= 0:
            raise RequestError(
                f"tracker.runs_per_minute={runs_per_minute:g} uploads nothing; say a number above"
                " 0, or tracker.mode=offline"
            )
        self.project, self.entity, self.mode = project, entity, mode
        self.runs_per_minute = runs_per_minute
        self._run: WandbRun | None = None

    def start(self, stage: Stage, store: str) -> None:
        self._leave_all()  # a worker is used for many stages: what interrupted ones left open
        run = self._run = self._begin(store, stage_opening(stage))
        if run is not None:
            _open.append(run)
            self._attempt("axes", run, run.axes)

    def log(self, record: dict[str, Any]) -> None:
        run = self._run
        if run is not None and (row := history_row(record)):
            self._attempt("history", run, lambda: run.row(row))

    def finish(self, result: dict[str, Any]) -> None:
        run, self._run = self._run, None
        if run is not None and run in _open:  # else another tracker's start has ended it
            _open.remove(run)
            self._close(run, lambda: stage_ending(result))

    def cell(self, record: dict[str, Any], store: str) -> None:
        run = self._begin(store, cell_opening(record))
        if run is not None:
            self._close(run, lambda: cell_ending(record))

    def report(self, folder: str, store: str) -> None:
        if _START not in _reported:
            self._attempt("report", None, lambda: self._rebuilder(store, "offline").report(folder))

    def rebuilder(self, store: str) -> WandbRebuilder:
        return self._rebuilder(store, self.mode)

    def _rebuilder(self, store: str, mode: str) -> WandbRebuilder:
        return WandbRebuilder(
            store,
            project=self.project,
            entity=self.entity,
            mode=mode,
            runs_per_minute=self.runs_per_minute,
        )

    def _begin(self, store: str, opening: Mapping[str, Any]) -> WandbRun | None:
        """A new run, or None where W&B cannot be used in this process."""
        if _START in _reported:
            return None
        found: WandbRun | None = self._attempt(
            _START, None, lambda: WandbRun(store, opening, project=self.project, entity=self.entity)
        )
        return found

    def _close(self, run: WandbRun, ending: Callable[[], Ending]) -> None:
        self._attempt("summary", run, lambda: run.close(ending()))
        if not run.ended:
            self._attempt("finish", run, run.abandon)

    def _leave_all(self) -> None:
        """End what is open: a process has one stage at a time, whichever tracker began it."""
        self._run = None
        while _open:
            run = _open.pop()
            self._attempt("finish", run, run.abandon)

    def _attempt(self, what: str, run: WandbRun | None, action: Callable[[], Any]) -> Any:
        """`action()`, or None and a line in the log (the first time) where it fails."""
        try:
            return action()
        except Exception as error:
            _pass_on_interruption(error)
            if run is not None:
                run.whole = False
            if what not in _reported:
                _reported.add(what)
                _log.warning(
                    "W&B (%s): %s: %s; the stage goes on, the store has everything",
                    what,
                    type(error).__name__,
                    error,
                )
            return None


def _pass_on_interruption(error: BaseException | None) -> None:
    """A signal that arrives inside W&B is ours, also where W&B has wrapped it."""
    while error is not None:
        if isinstance(error, Interrupted):
            raise error
        error = error.__cause__ or error.__context__
