"""Keeping the frontier, the store and the listener in step while a plan runs; any runner."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

from ..plan.to_run import to_run
from ..schema import RequestError, Stage
from ..store import Store
from .events import Event, OnEvent
from .frontier import Frontier


class Ledger:
    """A frontier that reads what is done from the store and tells every change to `on_event`.

    Raises RequestError if a parent is neither planned nor finished in the store.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        store: Store,
        on_event: OnEvent,
        first: Collection[str] = (),
        held_seconds: float = 5.0,
    ) -> None:
        self.store = store
        self._on_event = on_event
        self._held_seconds = held_seconds
        self._next_look = 0.0
        planned = {stage.id for stage in stages}
        parents = {parent for stage in stages for parent in stage.parents.values()}
        done = {name for name in planned | parents if store.result(name) is not None}
        self._again = done & {stage.id for stage in to_run(stages, store)}
        done -= self._again
        if missing := sorted(parents - planned - done):
            raise RequestError(
                f"the plan needs stages that are neither in it nor finished in {store.address}: "
                f"{', '.join(missing)}. Plan again: obert-sweeps plan"
            )
        self.frontier = Frontier(stages, done, first)
        for name in self.frontier.named("done"):
            self._finished(name)

    def started(self, name: str, reason: str = "") -> None:
        """The stage's process has begun; again, with a reason, if it had begun before."""
        self._on_event(Event("started", name, reason=reason))

    def ended(self, name: str, outcome: dict[str, Any]) -> None:
        """The stage's process has come back with an outcome: {status, reason}."""
        status = outcome["status"]
        if status == "held":
            self.frontier.held(name)
            self._on_event(Event("held", name, outcome, outcome.get("reason") or ""))
        elif status == "failed":
            self._failed(name, outcome)
        else:
            self.frontier.finished(name)
            self._on_event(Event("finished", name, outcome))

    def look_at_held(self) -> None:
        """Every few seconds: has the other driver finished a stage, or left it?"""
        held = self.frontier.named("held") if time.monotonic() >= self._next_look else []
        if not held:
            return
        self._next_look = time.monotonic() + self._held_seconds
        for name in held:
            stage = self.frontier.stages[name]
            lost = name in self._again and self.store.lacks_model(stage)
            if self.store.result(name) is not None and not lost:
                self.frontier.finished(name)
                self._finished(name)
                continue
            if self.store.folder(name).holder() is None:
                self.frontier.let_go(name)

    def _finished(self, name: str) -> None:
        """Done before, or by another driver."""
        result = self.store.result(name) or {}
        outcome = {"id": name, "status": result.get("status", "done"), "reason": None}
        self._on_event(Event("finished", name, outcome))

    def _failed(self, name: str, outcome: dict[str, Any]) -> None:
        reason = outcome.get("reason") or "no reason given"
        blocked = self.frontier.failed(name, reason)
        self._on_event(Event("failed", name, outcome, reason))
        for child, why in blocked:
            self._on_event(Event("blocked", child, reason=why))
