"""The further processes of a stage with several workers: actors in its trial's placement group.

The trial's process is rank 0 and makes them on bundles 1, 2, … when a stage needs them. They stay
for its next stages, and go with it: Ray ends the actors of a process that is gone.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError
from ray.util import get_current_placement_group, get_node_ip_address
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from ..schema import RequestError, StageError, WorkerLost
from .attempt import named

if TYPE_CHECKING:
    from ..process_group import ProcessGroup

_START_SECONDS = 300.0  # for a process to come up and import torch, from a slow shared folder too
_LAST_WORD_SECONDS = 5.0  # how long a worker may take to say, or show, how it has ended


class RankWorker:
    """A process that takes part in stages as rank 1, 2, …. It writes nothing."""

    def ready(self) -> None:
        from .. import process_group  # noqa: F401  torch starts here

    def take_part(
        self,
        stage: dict[str, Any],
        runtime: dict[str, Any],
        run_stage: str,
        rank: int,
        place: tuple[str, int],
    ) -> dict[str, str] | None:
        """None at the stage's end, or when rank 0 has left; else {reason, trace}: what went wrong
        here that another try would not mend.
        """
        from ..process_group import joined

        try:
            with joined(
                place,
                rank,
                stage["workers"],
                device=runtime["device"],
                seconds=runtime["group_seconds"],
                address=get_node_ip_address(),
            ) as group:
                named(run_stage)(stage, runtime, group)
        except WorkerLost:
            return None
        except (StageError, RequestError) as error:
            return {"reason": str(error), "trace": traceback.format_exc()}
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            return {"reason": reason, "trace": traceback.format_exc()}
        return None


class RankWorkers:
    """The other workers of this trial's process, as many as its stage asks for."""

    def __init__(self) -> None:
        self._actors: list[Any] = []
        self._parts: list[Any] = []  # what each does just now: Ray's promise of `take_part`

    @contextmanager
    def group(
        self, stage: dict[str, Any], runtime: dict[str, Any], run_stage: str
    ) -> Iterator[ProcessGroup]:
        """The group of the stage's workers, with this process as rank 0.

        At the end all have left it: workers that wait for an answer from rank 0 find that it has
        gone, and those that do not come back are ended. Raises WorkerLost if the group does not
        come about.
        """
        from ..process_group import Meeting, joined

        size, seconds, address = stage["workers"], runtime["group_seconds"], get_node_ip_address()
        try:
            self._start(size - 1, stage["resources"])
            meeting = Meeting(address, size, seconds)
            place = (meeting.address, meeting.port)
            self._parts = [
                actor.take_part.remote(stage, runtime, run_stage, rank, place)
                for rank, actor in enumerate(self._actors, start=1)
            ]
            with joined(
                meeting,
                0,
                size,
                device=runtime["device"],
                seconds=seconds,
                address=address,
                ended=self._ended,
            ) as group:
                yield group
        except BaseException:
            self.end()
            raise
        if self._missing(_LAST_WORD_SECONDS):
            self.end()

    def end(self) -> None:
        """End them, whatever they do."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors, self._parts = [], []

    def _start(self, count: int, resources: dict[str, float]) -> None:
        if len(self._actors) != count:
            self.end()
            trial = get_current_placement_group()
            self._actors = [
                ray.remote(RankWorker)
                .options(
                    num_cpus=resources.get("cpu", 0.0),
                    num_gpus=resources.get("gpu", 0.0),
                    scheduling_strategy=PlacementGroupSchedulingStrategy(
                        placement_group=trial, placement_group_bundle_index=index
                    ),
                )
                .remote()
                for index in range(1, count + 1)
            ]
        try:
            ray.get([actor.ready.remote() for actor in self._actors], timeout=_START_SECONDS)
        except RayError as error:
            raise WorkerLost(f"{type(error).__name__}: a helper process did not start") from error

    def _ended(self, seconds: float) -> Exception | None:
        """Why the stage cannot go on, if a worker has ended; waits at most so long for that."""
        done, _ = ray.wait(self._parts, num_returns=len(self._parts), timeout=seconds)
        dead = None
        for rank, part in enumerate(self._parts, start=1):
            if part not in done:
                continue
            try:
                said = ray.get(part)
            except RayError as error:
                dead = WorkerLost(f"worker {rank} died ({type(error).__name__})")
                continue
            if said is not None:
                failed = StageError(f"worker {rank}: {said['reason']}")
                failed.add_note(f"There:\n{said['trace']}")
                return failed
        return dead

    def _missing(self, seconds: float) -> bool:
        """Has a worker died, or not come back within so many seconds?"""
        _, late = ray.wait(self._parts, num_returns=len(self._parts), timeout=seconds)
        return bool(late) or isinstance(self._ended(0.0), WorkerLost)
