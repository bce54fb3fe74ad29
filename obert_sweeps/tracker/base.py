"""The tracker protocol: a view of the store for people. The store is the truth.

A tracker never fails or slows a stage: whatever goes wrong inside it is logged once and dropped.
Of the processes of one stage only rank 0 holds a tracker.
"""

from __future__ import annotations

from typing import Any

from ..schema import Stage


class Tracker:
    """Does nothing: `tracker=none` is this object, not an `if`."""

    def start(self, stage: Stage, store: str) -> None:
        """A stage begins, or goes on after an interruption. Ends what was open before."""

    def log(self, record: dict[str, Any]) -> None:
        """One record of the stage's metrics.jsonl."""

    def finish(self, result: dict[str, Any]) -> None:
        """The stage has ended.

        `result` is its result.json, or {"status": "failed" or "interrupted", "reason": …}.
        """

    def cell(self, record: dict[str, Any], store: str) -> None:
        """One cell and seed is complete.

        `record`: id, table, task, model, method, sparsity, seed, stages (ids), measured, published,
        difference, verdict.
        """
