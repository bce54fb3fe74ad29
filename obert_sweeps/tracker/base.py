"""The tracker protocol: a view of the store for people. The store is the truth.

A tracker never fails or slows a stage: whatever goes wrong inside it is logged once and dropped.
Of the processes of one stage only rank 0 holds a tracker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..schema import Stage


class Rebuilder:
    """Makes runs again from what the store holds. Unlike a tracker it raises what goes wrong.

    Each method says whether it wrote anything: False where the run is there and tells the same.
    """

    def stage(
        self, stage: Stage, records: Sequence[Mapping[str, Any]], result: Mapping[str, Any]
    ) -> bool:
        """A stage that has ended: its metrics.jsonl, and what `Tracker.finish` was given."""
        raise NotImplementedError

    def cell(self, record: Mapping[str, Any]) -> bool:
        """What `Tracker.cell` was given."""
        raise NotImplementedError

    def report(self, folder: str) -> bool:
        """The report in `folder`: its summary table and files, as one run."""
        raise NotImplementedError


class Tracker:
    """Does nothing: `tracker=none` is this object, not an `if`."""

    def start(self, stage: Stage, store: str) -> None:
        """A stage begins, or goes on after an interruption. Ends what was open before."""

    def log(self, record: dict[str, Any]) -> None:
        """One record of the stage's metrics.jsonl."""

    def finish(self, result: dict[str, Any]) -> None:
        """The stage has ended.

        `result` is its result.json, or {"status": "failed", "reason": …}, or
        {"status": "interrupted"}.
        """

    def cell(self, record: dict[str, Any], store: str) -> None:
        """One cell and seed is complete.

        `record`: id, table, task, model, method, sparsity, seed, stages (ids), measured, published,
        difference, verdict.
        """

    def report(self, folder: str, store: str) -> None:
        """The report in `folder` has been written."""

    def rebuilder(self, store: str) -> Rebuilder | None:
        """What makes this tracker's runs of `store` again; None: it has no runs."""
        return None
