"""Worker groups of real processes, for tests.

torch.distributed never runs in pytest's own process: rank 0 is a child too, so that a group that
breaks takes nothing else with it. The children are forked from a server that has imported torch
already, and transformers if pytest has.
"""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from obert_sweeps.process_group import Meeting, joined

DEAD = "dead"


def run_workers(
    work: Callable[..., Any], size: int, *args: Any, seconds: float = 20.0, limit: float = 100.0
) -> list[Any]:
    """What `work(group, *args)` gave at each rank: its result, the exception it raised, or DEAD.

    `seconds` is the group's own time limit; after `limit` seconds all are ended and DEAD.
    """
    return run_apart(_together, size, seconds, work, args, seconds=seconds, limit=limit)


def _together(rank: int, meeting: Any, size: int, seconds: float, work: Any, args: Any) -> Any:
    with joined(meeting, rank, size, device="cpu", seconds=seconds) as group:
        return work(group, *args)


def run_apart(
    work: Callable[..., Any], size: int, *args: Any, seconds: float = 20.0, limit: float = 100.0
) -> list[Any]:
    """The same for `work(rank, meeting, size, *args)`, which has not joined the others yet."""
    context = multiprocessing.get_context("forkserver")
    bert = ["transformers.models.bert.modeling_bert"] if "transformers" in sys.modules else []
    context.set_forkserver_preload(["torch.distributed", *bert])
    pipes = [context.Pipe() for _ in range(size)]
    processes = [
        context.Process(target=_worker, args=(theirs, rank, size, seconds, work, args))
        for rank, (_, theirs) in enumerate(pipes)
    ]
    ends = [ours for ours, _ in pipes]
    until = time.monotonic() + limit
    try:
        for process, (_, theirs) in zip(processes, pipes, strict=True):
            process.start()
            theirs.close()
        place = _receive(ends[0], until)
        for end in ends[1:]:
            end.send(place)
        return [_receive(end, until) for end in ends]
    finally:
        for process, end in zip(processes, ends, strict=True):
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
            end.close()


def _receive(end: Connection, until: float) -> Any:
    try:
        return pickle.loads(end.recv()) if end.poll(max(0.0, until - time.monotonic())) else DEAD
    except EOFError:
        return DEAD


def _worker(
    end: Connection, rank: int, size: int, seconds: float, work: Callable[..., Any], args: Any
) -> None:
    import torch

    torch.set_num_threads(1)
    meeting: Any
    if rank == 0:
        meeting = Meeting("127.0.0.1", size, seconds)
        end.send(pickle.dumps((meeting.address, meeting.port)))
    else:
        meeting = end.recv()
    try:
        found = work(rank, meeting, size, *args)
    except Exception as error:
        found = error
    end.send(pickle.dumps(found))  # as bytes: a tensor would be shared memory of the dead
