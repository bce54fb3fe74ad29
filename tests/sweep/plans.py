"""Plans for the runner tests, and how to start a driver of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from obert_sweeps.schema import Runtime, Stage

HERE = Path(__file__).resolve().parent
PYTHONPATH = os.pathsep.join([str(HERE.parent.parent), str(HERE), str(HERE.parent)])
FAKE = "fake_stages:run_stage"

# Reads a plan from argv, runs it, writes each event as a line to the file argv names.
DRIVER = """
import json, sys
from obert_sweeps import sweep
from obert_sweeps.schema import Interrupted, Runtime, Stage
asked = json.loads(sys.argv[1])
events = open(asked["events"], "a", buffering=1)
def on_event(event):
    events.write(json.dumps([event.kind, event.stage, event.outcome, event.reason]) + "\\n")
try:
    sweep.run_plan(
        [Stage.from_dict(stage) for stage in asked["stages"]],
        Runtime(asked["store"], **asked["runtime"]),
        asked["cluster"], on_event, (), asked["run_stage"])
except Interrupted as stop:
    sys.exit(stop.exit_code)
finally:
    assert "torch" not in sys.modules
    assert "started" in open(asked["events"]).read() or "ray" not in sys.modules
"""


def stage(name: str, *parents: str, seed: int = 1, cpu: float = 1.0, **recipe: Any) -> Stage:
    roles = {f"role{number}": parent for number, parent in enumerate(parents)}
    return Stage(name, f"stage {name}", recipe, seed, roles, resources={"cpu": cpu, "gpu": 0.0})


def runtime(root: Path) -> Runtime:
    return Runtime(str(root), checkpoint_seconds=3.0)  # the fake stages' stale_after


def mixed() -> list[Stage]:
    """A diamond, a branch that fails, one that raises, one that kills its process once."""
    return [
        stage("bottom", "left", "right", seed=1000),
        stage("left", "top", seed=10),
        stage("right", "top", seed=100, cpu=2.0),
        stage("top", seed=1),
        stage("bad", "top", fail="no such data"),
        stage("under_bad", "bad"),
        stage("deep_under_bad", "under_bad", "left"),
        stage("broken", **{"raise": "one divided by nothing"}),
        stage("dies_once", seed=7, steps=3, die_after=[2]),
        stage("diverges", seed=5, status="not_converged"),
        stage("after", "dies_once", "diverges", seed=3),
    ]


VALUES = {"top": 1, "left": 11, "right": 101, "bottom": 1112, "dies_once": 7, "diverges": 5}
VALUES["after"] = 15


def start_driver(
    root: Path,
    events: Path,
    stages: list[Stage],
    run_stage: str = FAKE,
    runtime: dict[str, Any] | None = None,
    start: Callable[..., subprocess.Popen[str]] | None = None,
    **cluster: Any,
) -> subprocess.Popen[str]:
    """`start(*command, **options)` starts the process; on another host, for one."""
    asked = {
        "stages": [stage.as_dict() for stage in stages],
        "store": str(root),
        "events": str(events),
        "run_stage": run_stage,
        "runtime": runtime or {"checkpoint_seconds": 3.0},  # the fake stages' stale_after
        "cluster": {"runner": "ray", "cpus": 2, "held_seconds": 0.5, **cluster},
    }
    command = [sys.executable, "-c", DRIVER, json.dumps(asked)]
    options: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "env": {**os.environ, "PYTHONPATH": PYTHONPATH},
        "start_new_session": True,
    }
    if start is not None:
        return start(*command, **options)
    return subprocess.Popen(command, text=True, **options)


def read_events(path: Path) -> list[tuple[str, str, dict[str, Any], str]]:
    if not path.exists():
        return []
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()]
