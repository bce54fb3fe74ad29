"""Running a plan. `cluster.runner` names the way; Ray is imported where it is chosen and needed."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from typing import Any

from ..schema import RequestError, Runtime, Stage
from ..store import Store
from .attempt import RUN_STAGE
from .events import Event, OnEvent
from .ledger import Ledger

__all__ = ["Event", "OnEvent", "run_plan"]

RUNNERS = {"inline": ".inline", "ray": ".ray_tune"}


def run_plan(
    stages: Sequence[Stage],
    runtime: Runtime,
    cluster: dict[str, Any],
    on_event: OnEvent,
    first: Collection[str] = (),
    run_stage: str = RUN_STAGE,
) -> None:
    """Run `stages` and report every change to `on_event`, in the calling thread.

    `cluster`: the keys of conf/cluster/*.yaml. `first`: stage ids that are preferred, with all they
    need. Returns when every stage is finished, failed or blocked. Raises RequestError before
    anything starts where the plan cannot run, and Interrupted on SIGINT, SIGTERM
    and SIGHUP.
    """
    name = cluster.get("runner", "ray")
    if name not in RUNNERS:
        raise RequestError(
            f"cluster.runner={name} is not one of {', '.join(sorted(RUNNERS))}; "
            "type cluster=local or cluster=inline"
        )
    ledger = Ledger(
        stages, Store(runtime.store), on_event, first, float(cluster.get("held_seconds", 5.0))
    )
    if not ledger.frontier.all_done:
        runner = importlib.import_module(RUNNERS[name], __package__)
        runner.run(ledger, runtime, cluster, run_stage)
