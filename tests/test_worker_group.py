"""Exchanges between real processes, and what the survivors see when one dies or hangs."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np
import pytest
import torch
from workers import DEAD, run_apart, run_workers

from obert_sweeps.process_group import Meeting, ProcessGroup, joined
from obert_sweeps.schema import StageError, WorkerLost
from obert_sweeps.worker_group import ALONE, WorkerGroup

TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool]


def array(rank: int, *shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Whole numbers, exact in every type and in any order of addition."""
    return np.random.default_rng([rank, seed]).integers(0, 9, shape)


def tensor(values: np.ndarray[Any, Any], kind: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(values).to(kind)


def every_exchange(group: ProcessGroup) -> list[str]:
    """Names of the exchanges that did not give what NumPy gives of all workers' numbers."""
    rank, size, wrong = group.rank, group.size, []

    def check(name: str, found: torch.Tensor, expected: np.ndarray[Any, Any]) -> None:
        if found.shape != expected.shape or not torch.equal(found, tensor(expected, found.dtype)):
            wrong.append(f"{name} {found.dtype}")

    ranks = range(size)
    for kind in TYPES[:-1]:
        own = tensor(array(rank, 4, 3), kind)
        given = group.sum(own)
        check("sum", given, sum(array(r, 4, 3) for r in ranks))
        check("sum in place", own, sum(array(r, 4, 3) for r in ranks))
        turned = tensor(array(rank, 4, 3), kind).t()
        group.sum(turned)
        check("sum of what is not contiguous", turned, sum(array(r, 4, 3) for r in ranks).T)
    for kind in TYPES:
        for source in ranks:
            own = tensor(array(rank, 5) % 2, kind)
            group.send_all(own, source)
            check(f"send_all from {source}", own, array(source, 5) % 2)
        lengths = [3 * (r % 2) + r for r in ranks]  # worker 0 has nothing
        found = group.gather(tensor(array(rank, lengths[rank]) % 2, kind), lengths)
        check("gather", found, np.concatenate([array(r, lengths[r]) % 2 for r in ranks]))
        parts = [tensor(array(rank, 2, r, seed=r) % 2, kind) for r in ranks]
        for source, found in enumerate(group.exchange(parts)):
            check(f"exchange from {source}", found, array(source, 2, rank, seed=rank) % 2)
        columns = tensor(array(rank, 2, 2 * size) % 2, kind).split(2, dim=1)
        for source, found in enumerate(group.exchange(columns)):
            whole = array(source, 2, 2 * size) % 2
            check(f"columns from {source}", found, whole[:, 2 * rank : 2 * rank + 2])
    group.wait()
    return wrong


@pytest.mark.parametrize("size", [2, 3])
def test_every_exchange_gives_what_one_process_reckons(size: int) -> None:
    assert run_workers(every_exchange, size) == [[]] * size


def test_a_group_of_one_gives_back_what_went_in() -> None:
    own = torch.arange(6.0)
    assert ALONE.sum(own) is own and ALONE.send_all(own) is own and ALONE.gather(own, [6]) is own
    assert ALONE.exchange([own])[0] is own
    ALONE.wait()
    assert (ALONE.rank, ALONE.size) == (0, 1)


def test_no_worker_passes_before_all_have_come() -> None:
    times = run_workers(late, 2)
    assert times[1] > times[0]  # one clock: both are on this machine


def late(group: WorkerGroup) -> float:
    if group.rank == 0:
        time.sleep(0.5)
        came = time.monotonic()
        group.wait()
        return came
    group.wait()
    return time.monotonic()


def exchange(group: WorkerGroup, how: str) -> None:
    if how == "sum":
        group.sum(torch.ones(3))
    elif how == "send_all":
        group.send_all(torch.ones(3), source=1)
    elif how == "gather":
        group.gather(torch.ones(2), [2] * group.size)
    elif how == "exchange":
        group.exchange([torch.ones(2)] * group.size)
    else:
        group.wait()


def lose(group: WorkerGroup, how: str, fault: str) -> float:
    """Worker 1 dies or hangs; the others note how long an exchange then took to fail."""
    group.wait()
    if group.rank == 1:
        if fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(4)
        return 0.0
    begun = time.monotonic()
    told = f"worker {group.rank} of {group.size} lost contact with another"
    with pytest.raises(WorkerLost, match=told):
        exchange(group, how)
    return time.monotonic() - begun


@pytest.mark.parametrize("how", ["sum", "send_all", "gather", "exchange", "wait"])
def test_a_killed_worker_is_lost_to_the_survivor_at_once(how: str) -> None:
    survivor, killed = run_workers(lose, 2, how, "killed", seconds=30)
    assert killed == DEAD and survivor < 5


@pytest.mark.parametrize("how", ["sum", "exchange"])
def test_a_worker_that_hangs_is_lost_after_the_limit(how: str) -> None:
    times = run_workers(lose, 2, how, "hangs", seconds=1.0)
    assert 0.9 < times[0] < 3


def test_every_survivor_of_three_loses_the_dead_one() -> None:
    first, dead, last = run_workers(lose, 3, "sum", "killed", seconds=5)
    assert dead == DEAD and max(first, last) < 7


def test_what_a_worker_said_before_it_left_is_raised_in_its_place() -> None:
    found = run_workers(told, 2)
    assert isinstance(found[0], StageError) and str(found[0]) == "worker 1: no such file"
    assert isinstance(found[1], StageError) and str(found[1]) == "no such file"


def told(group: ProcessGroup) -> None:
    if group.rank == 1:
        raise StageError("no such file")
    group._ended = lambda seconds: StageError("worker 1: no such file")
    group.sum(torch.ones(1))


def test_a_worker_that_leaves_is_missed_at_once_though_its_process_lives() -> None:
    seconds, _ = run_apart(leave, 2, seconds=30)
    assert seconds < 3


def leave(rank: int, meeting: Any, size: int) -> float:
    with joined(meeting, rank, size, device="cpu", seconds=30) as group:
        weights = [torch.nn.Parameter(torch.ones(2))]
        torch.optim.AdamW(weights, fused=True).step()  # imports half of torch, as training does
        group.wait()
        begun = time.monotonic()
        if rank == 0:
            with pytest.raises(WorkerLost):
                group.sum(torch.ones(1))
            return time.monotonic() - begun
    time.sleep(4)
    return 0.0


def test_a_worker_that_never_comes_is_lost_after_the_limit() -> None:
    seconds, nothing = run_apart(meet_in_vain, 2, seconds=1.0)
    assert nothing is None and 0.9 < seconds < 4


def meet_in_vain(rank: int, meeting: Any, size: int) -> float | None:
    if rank == 1:
        return None
    begun = time.monotonic()
    with pytest.raises(WorkerLost, match="worker 0 of 2 did not meet the others"):
        with joined(meeting, rank, size, device="cpu", seconds=1.0):
            pass
    return time.monotonic() - begun


def test_the_same_processes_meet_again_after_a_group_broke() -> None:
    assert run_apart(meet_thrice, 2) == [[0, 2, 4], [0, 2, 4]]


def meet_thrice(rank: int, meeting: Any, size: int) -> list[int]:
    """Worker 0 leaves each group while worker 1 still waits for an answer, as at a stage's end."""
    found = []
    for attempt in range(3):
        with joined(meeting, rank, size, device="cpu", seconds=10, address="127.0.0.1") as group:
            found.append(int(group.sum(torch.tensor(attempt))))
            meeting = Meeting("127.0.0.1", size, 10) if rank == 0 else None
            port = group.send_all(torch.tensor(meeting.port if meeting else 0))
            if rank == 1:
                with pytest.raises(WorkerLost):
                    group.sum(torch.ones(1))
        meeting = meeting or ("127.0.0.1", int(port))
    return found
