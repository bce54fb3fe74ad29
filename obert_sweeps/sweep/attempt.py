"""Where stages run: what every runner does around one stage, in whichever process."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..schema import Interrupted, Runtime, Stage, WorkerLost
from ..store import Store

RUN_STAGE = "obert_sweeps.trial:run_stage"


def own_runtime(stage: Stage, runtime: Runtime) -> Runtime:
    """The runtime of one stage. The same under every runner, since threads change float sums."""
    threads = max(1, int(stage.resources.get("cpu", 1)))
    device = runtime.device
    if device == "auto":
        device = "cuda" if stage.resources.get("gpu", 0) else "cpu"
    return replace(runtime, threads=threads, device=device)


def named(function: str) -> Callable[..., Any]:
    """The function that "module:function" names; imported here, so that no driver imports torch."""
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def carry_out(
    stage: dict[str, Any], runtime: dict[str, Any], run_stage: str, *group: Any
) -> dict[str, Any]:
    """Run one stage to its outcome {id, status, reason}; raises only Interrupted and WorkerLost.

    `run_stage` is "module:function", called with a worker group where there are several workers.
    What else it raises is a fault of the program, not of the machine: it becomes the outcome, with
    the traceback in the stage's log, and is not tried again.
    """
    try:
        outcome = named(run_stage)(stage, runtime, *group)
        return {"id": stage["id"], "status": outcome["status"], "reason": outcome.get("reason")}
    except (Interrupted, WorkerLost):
        raise
    except Exception as error:
        folder = Store(runtime["store"]).folder(stage["id"])
        with suppress(OSError):
            folder.log(traceback.format_exc())
        reason = f"{type(error).__name__}: {error} (traceback in {folder.where('log.txt')})"
        return {"id": stage["id"], "status": "failed", "reason": reason}
