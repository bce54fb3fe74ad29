"""Stages as the trials of one Ray Tuner, whose searcher hands them out in the DAG's order.

Ray schedules, places and restarts; what is done is read from the store, so nothing of Tune's own
bookkeeping outlives the run. A stage's own failure is an outcome; only the death of one of its
processes is a failure to Tune, which starts the stage again, and it goes on from its checkpoint in
the store.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from ..schema import Interrupted, Runtime, Stage
from .attempt import RUN_STAGE, carry_out, own_runtime
from .demand import bundle, check_demand, most_at_once
from .ledger import Ledger
from .rank_workers import RankWorkers
from .ray_session import environment, session
from .room import Room, shape_of
from .signals import on_stop

_MOST_STARTING = 16  # processes that start at once, of stages that ask for the same


def most_waiting(at_once: int) -> int:
    """How many stages may be queued beyond the room there is, where so many run at once.

    With none, a worker that becomes free has nothing to go on with, and Tune ends it; with many, a
    stage that becomes urgent later waits behind those queued before it.
    """
    return min(16, max(2, at_once // 8))


def most_pending(stages: Sequence[Stage], at_once: int) -> int:
    """How many trials Tune may have that wait for their room: some of each demand there is."""
    shapes = {shape_of(stage) for stage in stages}
    return (min(_MOST_STARTING, at_once) + most_waiting(at_once)) * len(shapes)


class _Stop(BaseException):
    """Leaves Tune's loop at once; it would take an Exception for a failed trial."""


class RunState:
    """What searcher, callback and stopper share, and what makes the loop stop from outside a trial:
    a signal, or an error of the listener.
    """

    def __init__(self, ledger: Ledger, max_failures: int) -> None:
        self.ledger = ledger
        self.max_failures = max_failures
        self.signum: int | None = None
        self.error: Exception | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> RunState:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune writes its configuration down, to restore it some day, which we never do."""
        return str, ()

    def check(self) -> None:
        if self.signum is not None or self.error is not None:
            raise _Stop

    def on_signals(self) -> AbstractContextManager[None]:
        """Such signals take hold at the next turn of Tune's loop (0.1 s)."""

        def stop(signum: int) -> None:
            self.signum = signum

        return on_stop(stop)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """An error of ours must end the run, not count as a failure of the trial at hand."""
        try:
            yield
        except Exception as error:
            self.error = error
            raise _Stop from error


class StageTrial(tune.Trainable):
    """A worker process. One step is one stage; a reused process takes the next stage's config.

    Of a stage with several workers it is rank 0, and the others are its actors.
    """

    def setup(
        self,
        config: dict[str, Any],
        stages: dict[str, str] | None = None,
        run_stage: str = RUN_STAGE,
    ) -> None:
        self._stages = stages or {}
        self._run_stage = run_stage
        self._workers = RankWorkers()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        stage, runtime = json.loads(self._stages[self.config["stage"]])
        if stage["workers"] == 1:
            outcome = carry_out(stage, runtime, self._run_stage)
        else:
            with self._workers.group(stage, runtime, self._run_stage) as group:
                outcome = carry_out(stage, runtime, self._run_stage, group)
        return {"done": True, "outcome": json.dumps(outcome)}

    def cleanup(self) -> None:
        self._workers.end()

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """One bundle a worker, on one node if they fit there."""
        bundles = [bundle(config["resources"])] * config["workers"]
        return tune.PlacementGroupFactory(bundles, strategy="PACK")


class StageSearcher(Searcher):
    """Suggests ready stages: None while waiting, FINISHED when every stage has come to its end."""

    def __init__(self, run: RunState, room: Room) -> None:
        super().__init__()
        self._run = run
        self._room = room
        self._stage_of: dict[str, str] = {}  # trial id -> stage id

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        self._run.check()
        with self._run.guard():
            self._run.ledger.look_at_held()
        frontier = self._run.ledger.frontier
        if frontier.all_done:
            return str(Searcher.FINISHED)
        stage = frontier.next_ready(self._room.gate())
        if stage is None:
            return None
        frontier.started(stage.id)
        self._room.take(stage)
        self._stage_of[trial_id] = stage.id
        return {"stage": stage.id, "resources": stage.resources, "workers": stage.workers}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        name = self._stage_of.pop(trial_id)
        self._room.give_back(name)
        if not error and result and "outcome" in result:
            outcome = json.loads(result["outcome"])
        else:
            times = f"{self._run.max_failures + 1} times"
            if self._run.ledger.frontier.stages[name].workers == 1:
                reason = f"its process died {times} (killed, or out of memory)"
            else:
                reason = f"a worker of it was lost {times} (killed, out of memory, or hung)"
            outcome = {"id": name, "status": "failed", "reason": reason}
        with self._run.guard():
            self._run.ledger.ended(name, outcome)

    def save(self, checkpoint_path: str) -> None:
        """The store is the truth; Tune has nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("run the same command again instead")


class _Starts(tune.Callback):
    """Tells when a stage's process begins, and when it begins again after a death."""

    def __init__(self, run: RunState, room: Room) -> None:
        self._run = run
        self._room = room

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._room.placed(trial.config["stage"])
        deaths = trial.num_failures
        again = f"{_what_died(trial)}; started again ({deaths} of {self._run.max_failures})"
        with self._run.guard():
            self._run.ledger.started(trial.config["stage"], again if deaths else "")


def _what_died(trial: Any) -> str:
    """By the last error that Tune has noted in its own temporary folder."""
    file = Path(trial.error_file or os.devnull)
    text = file.read_text() if file.exists() else ""
    lost = [line for line in text.splitlines() if "WorkerLost: " in line]
    return lost[-1].partition("WorkerLost: ")[2] if lost else "its process died"


class _Stopper(tune.Stopper):
    """Asked once a turn of Tune's loop."""

    def __init__(self, run: RunState) -> None:
        self._run = run

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        self._run.check()
        return False


def run(ledger: Ledger, runtime: Runtime, cluster: dict[str, Any], run_stage: str) -> None:
    """Run all stages of the ledger on Ray; see `sweep.run_plan`."""
    frontier, store = ledger.frontier, ledger.store
    todo = [stage for stage in frontier.stages.values() if frontier.state[stage.id] != "done"]
    run = RunState(ledger, int(cluster.get("max_failures", 3)))
    runtime = replace(runtime, store=store.address)  # a worker may have another working directory
    payload = {
        stage.id: json.dumps([stage.as_dict(), asdict(own_runtime(stage, runtime))])
        for stage in todo
    }
    max_concurrent = cluster.get("max_concurrent")
    reuse = cluster.get("reuse_actors", "auto")
    if reuse == "auto":  # a GPU's memory is given back for certain only by the end of a process
        reuse = not any(stage.resources.get("gpu") for stage in todo)
    with session(cluster, store.root) as bookkeeping, run.on_signals():
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        check_demand(todo, nodes)
        at_once = most_at_once(todo, nodes)
        room = Room(nodes, most_waiting(at_once), frontier.rank)
        try:
            _fit(
                tune.with_parameters(StageTrial, stages=payload, run_stage=run_stage),
                StageSearcher(run, room),
                tune.RunConfig(
                    name="sweep",
                    storage_path=str(bookkeeping),
                    stop=_Stopper(run),
                    failure_config=tune.FailureConfig(max_failures=run.max_failures),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    callbacks=[_Starts(run, room)],
                    verbose=0,
                ),
                reuse=bool(reuse),
                max_concurrent=max_concurrent,
                pending=most_pending(todo, at_once),
            )
        except _Stop:
            if run.error is not None:
                raise run.error from None
    if run.signum is not None:
        raise Interrupted(run.signum)


def _fit(
    trainable: Any,
    searcher: Searcher,
    run_config: tune.RunConfig,
    *,
    reuse: bool,
    max_concurrent: int | None,
    pending: int,
) -> None:
    with environment(TUNE_MAX_PENDING_TRIALS_PG=str(pending)):
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                reuse_actors=reuse,
                max_concurrent_trials=max_concurrent,
                trial_name_creator=lambda trial: trial.config["stage"],
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=run_config,
        ).fit()
