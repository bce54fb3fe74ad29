"""What scheduling costs: the paper's plan on many GPUs, against what no schedule can beat.

    python benchmarks/sweep.py                      a simulated clock: 64 GPUs, the plan's estimates
    python benchmarks/sweep.py --without-upstream   as if the upstream models were there already
    python benchmarks/sweep.py --mixed              the same with stages of very different demands
    python benchmarks/sweep.py --real-gpus 16       Ray itself: fake GPUs, stages that sleep
    python benchmarks/sweep.py --warm               seconds between real stages in one warm worker

The peer is the bound: the longest chain of stages, or all work divided among the GPUs, whichever is
more. `ratio` is the bound over the makespan (the utilisation of the bound), of the last thing run.
The simulation drives the real searcher; what it assumes of Ray (seconds to hand out a stage, to
start its process) are options; measure them with --real-gpus and --warm.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console

from obert_sweeps import sweep
from obert_sweeps.plan.dag import make_plan
from obert_sweeps.request.read import read
from obert_sweeps.schema import Runtime, Stage
from obert_sweeps.store import Store
from obert_sweeps.sweep.demand import most_at_once
from obert_sweeps.sweep.events import Event
from obert_sweeps.sweep.ledger import Ledger
from obert_sweeps.sweep.room import Room

GPUS_A_NODE = 8


def paper(overrides: list[str]) -> list[Stage]:
    """The stages of the paper's tables, one GPU each."""
    request = ["table=all", "preset=paper", "cluster.gpus_per_stage=1", *overrides]
    return make_plan(read(request)).wanted()


def without_upstream(stages: list[Stage]) -> list[Stage]:
    """As if the upstream models, by far the longest stages, were there already."""
    left = [s for s in stages if s.tags["task"] != "mlm"]
    ids = {s.id for s in left}
    return [
        replace(s, parents={role: p for role, p in s.parents.items() if p in ids}) for s in left
    ]


def mixed(stages: list[Stage]) -> list[Stage]:
    """Every tenth stage on 8 GPUs, every third on half of one, every fifth on CPUs alone."""
    changed = []
    for number, stage in enumerate(stages):
        gpus = (
            8.0 if number % 10 == 0 else 0.0 if number % 5 == 0 else 0.5 if number % 3 == 0 else 1.0
        )
        changed.append(replace(stage, resources={"cpu": 1.0, "gpu": gpus}))
    return changed


def bound(stages: list[Stage], gpus: int) -> tuple[float, float]:
    """Seconds of the longest chain, and of all work divided among the GPUs."""
    by_id = {s.id: s for s in stages}
    paths: dict[str, float] = {}
    for stage in stages:  # parents first
        before = [paths[p] for p in stage.parents.values() if p in by_id]
        paths[stage.id] = stage.cost["seconds"] + max(before, default=0.0)
    work = sum(s.cost["seconds"] * s.resources.get("gpu", 0.0) for s in stages)
    return max(paths.values()), work / gpus


class Simulation:
    """Ray Tune as far as it matters here: stages are handed out one at a time, wait for room, are
    placed where they first fit, start, run, and are reported one at a time.
    """

    def __init__(self, stages: list[Stage], gpus: int, hand_out: float, start: float) -> None:
        from obert_sweeps.sweep.ray_tune import RunState, StageSearcher, most_pending, most_waiting

        self.hand_out, self.start = hand_out, start
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger(stages, Store(self.folder.name), lambda event: None)
        count = -(-gpus // GPUS_A_NODE)
        self.nodes = [{"cpu": 64.0, "gpu": float(min(gpus, GPUS_A_NODE))} for _ in range(count)]
        named = [{name.upper(): amount for name, amount in node.items()} for node in self.nodes]
        at_once = most_at_once(stages, named)
        self.room = Room(named, most_waiting(at_once), self.ledger.frontier.rank)
        self.most_pending = most_pending(stages, at_once)
        self.searcher = StageSearcher(RunState(self.ledger, 0), self.room)

    def run(self) -> tuple[float, dict[str, tuple[float, float]]]:
        """The makespan, and for each stage when it was handed out and when it began."""
        now, number = 0.0, 0
        pending: list[tuple[str, Stage, float]] = []
        running: list[tuple[float, str, int, Stage]] = []
        seen: dict[str, tuple[float, float]] = {}
        while True:
            while len(pending) < self.most_pending:
                trial = f"t{number}"
                asked = self.searcher.suggest(trial)
                if not isinstance(asked, dict):
                    break
                number += 1
                now += self.hand_out
                pending.append((trial, self.ledger.frontier.stages[asked["stage"]], now))
                pending = self._place(pending, running, seen, now)
            if self.ledger.frontier.all_done:
                return now, seen
            assert running, "nothing runs, and yet it is not over"
            end, trial, node, stage = heapq.heappop(running)
            now = max(now, end) + self.hand_out
            for name, amount in stage.resources.items():
                self.nodes[node][name] += amount
            outcome = {"id": stage.id, "status": "done", "reason": None}
            self.searcher.on_trial_complete(trial, {"outcome": json.dumps(outcome)})
            pending = self._place(pending, running, seen, now)

    def _place(
        self, pending: list[Any], running: list[Any], seen: dict[str, Any], now: float
    ) -> list[Any]:
        waiting = []
        for trial, stage, since in pending:
            fits = [
                number
                for number, node in enumerate(self.nodes)
                if all(node[name] >= amount - 1e-9 for name, amount in stage.resources.items())
            ]
            if not fits:
                waiting.append((trial, stage, since))
                continue
            # the fullest that has room, as Ray packs
            node = min(fits, key=lambda number: (self.nodes[number]["gpu"], number))
            for name, amount in stage.resources.items():
                self.nodes[node][name] -= amount
            seen[stage.id] = (since, now)
            end = now + self.start + stage.cost["seconds"]
            heapq.heappush(running, (end, trial, node, stage))
            self.room.placed(stage.id)
        return waiting


def chosen(args: argparse.Namespace) -> list[Stage]:
    stages = paper(args.overrides)
    return without_upstream(stages) if args.without_upstream else stages


def simulated(args: argparse.Namespace, stages: list[Stage], gpus: int) -> dict[str, Any]:
    path, work = bound(stages, gpus)
    least = max(path, work)
    ideal, _ = Simulation(stages, gpus, 0.0, 0.0).run()
    began = time.perf_counter()
    real, seen = Simulation(stages, gpus, args.hand_out, args.start).run()
    driver = time.perf_counter() - began
    wide = [seen[s.id] for s in stages if s.resources["gpu"] > 1]
    narrow = [seen[s.id] for s in stages if s.resources["gpu"] <= 1]
    return {
        "what": "simulated" + (", mixed" if args.mixed else ""),
        "gpus": gpus,
        "stages": len(stages),
        "gpu_hours": work * gpus / 3600,
        "longest_chain_seconds": path,
        "work_bound_seconds": work,
        "makespan_seconds": real,
        "makespan_without_overhead_seconds": ideal,
        "overhead": real / ideal - 1,
        "ratio": least / real,
        "schedule_alone_ratio": least / ideal,
        "longest_wait_of_a_wide_stage": max((b - a for a, b in wide), default=0.0),
        "longest_wait_of_a_narrow_stage": max((b - a for a, b in narrow), default=0.0),
        "our_seconds_a_stage": driver / len(stages),
    }


def sleeping(stage: dict[str, Any], runtime: dict[str, Any]) -> dict[str, Any]:
    """A stage that takes its time and does nothing."""
    time.sleep(stage["cost"]["seconds"])
    result = {"id": stage["id"], "status": "done", "metrics": {"pid": os.getpid()}}
    Store(runtime["store"]).folder(stage["id"]).write_json("result.json", result)
    return {"id": stage["id"], "status": "done", "reason": None}


def real(args: argparse.Namespace) -> dict[str, Any]:
    """The plan with its times scaled to `--seconds`, on a Ray with fake GPUs, warm workers."""
    gpus = args.real_gpus
    stages = chosen(args)
    least = max(bound(stages, gpus))
    scale = args.seconds / least
    stages = [replace(s, cost={"seconds": s.cost["seconds"] * scale}) for s in stages]
    # First every worker once, so that what is measured is not the start of so many processes.
    warming = [
        replace(stages[0], id=f"warm{n}", parents={}, cost={"seconds": args.warm_up})
        for n in range(gpus)
    ]
    stages = [
        s if s.parents else replace(s, parents={f"warm{n}": f"warm{n}" for n in range(gpus)})
        for s in stages
    ]
    events: list[Event] = []
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    how = {"runner": "ray", "cpus": gpus, "gpus": gpus, "reuse_actors": True, "max_failures": 0}
    with tempfile.TemporaryDirectory() as folder:
        sweep.run_plan(
            [*warming, *stages], Runtime(folder), how, events.append, (), "sweep:sleeping"
        )
        results = [Store(folder).result(s.id) or {} for s in stages]
    processes = len({r["metrics"]["pid"] for r in results if r})
    if failed := [e for e in events if e.kind == "failed"]:
        raise SystemExit(f"{failed[0].stage}: {failed[0].reason}")
    first = {s.id for s in warming}
    begun = max(e.time for e in events if e.kind == "finished" and e.stage in first)
    ended = [e.time for e in events if e.kind == "finished" and e.stage not in first]
    makespan = max(ended) - begun
    return {
        "what": "Ray, fake GPUs",
        "gpus": gpus,
        "stages": len(stages),
        "bound_seconds": args.seconds,
        "makespan_seconds": makespan,
        "ratio": args.seconds / makespan,
        "lost_seconds_a_stage_of_the_makespan": (makespan - args.seconds) / (len(stages) / gpus),
        "processes": processes,  # as many as GPUs, where workers stay warm
        "cores": os.cpu_count(),
    }


def warm(args: argparse.Namespace) -> dict[str, Any]:
    """The demo's stages one after another in one worker: what passes that is not their own."""
    found: dict[str, Any] = {"what": "between stages in a warm worker"}
    for tracker in ("none", "wandb"):
        with tempfile.TemporaryDirectory() as folder:
            request = [f"store={folder}", f"tracker={tracker}", "cluster.max_concurrent=1"]
            command = [sys.executable, "-m", "obert_sweeps", "run", *request, *args.warm_cells]
            subprocess.run(
                command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            ends = sorted(
                (file.stat().st_mtime, json.loads(file.read_text())["cost"]["seconds"])
                for file in Path(folder).glob("stages/*/result.json")
            )
        gaps = [b - a - own for (a, _), (b, own) in pairwise(ends)]
        found[f"seconds_between_{tracker}"] = statistics.median(gaps)
        found[f"most_{tracker}"] = max(gaps)
        found["stages"] = len(ends)
    found["ratio"] = 0.3 / found["seconds_between_none"]  # against the target
    return found


def show(found: dict[str, Any]) -> None:
    out = Console(highlight=False)
    for name, value in found.items():
        said = f"{value:.4g}" if isinstance(value, float) else str(value)
        out.print(f"{name.replace('_', ' '):<40} {said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="of the plan: seeds=1, data_root=DIR")
    parser.add_argument("--gpus", type=int, nargs="+", default=[64])
    parser.add_argument("--hand-out", type=float, default=0.03, help="the driver's seconds a stage")
    parser.add_argument("--start", type=float, default=5.0, help="a stage's own new process")
    parser.add_argument("--mixed", action="store_true")
    parser.add_argument("--without-upstream", action="store_true")
    parser.add_argument("--real-gpus", type=int)
    parser.add_argument("--seconds", type=float, default=60.0, help="the bound of the real run")
    parser.add_argument("--warm-up", type=float, default=20.0)
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--warm-cells", nargs="*", default=["cells=t5/sst2/*"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.warm:
        runs = [warm(args)]
    elif args.real_gpus:
        runs = [real(args)]
    else:
        stages = mixed(chosen(args)) if args.mixed else chosen(args)
        runs = [simulated(args, stages, gpus) for gpus in args.gpus]
    for found in runs:
        show(found)
    if args.json:
        document = {"ratio": runs[-1]["ratio"], "runs": runs}
        args.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
