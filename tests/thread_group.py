"""A group of workers that are threads of this process, for tests of what workers do together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from obert_sweeps.schema import WorkerLost
from obert_sweeps.worker_group import WorkerGroup


class ThreadGroup(WorkerGroup):
    """Exchanges by a common board; who waits longer than `seconds` finds the others lost."""

    def __init__(self, rank: int, barrier: threading.Barrier, board: list[Any]) -> None:
        self.rank = rank
        self.size = barrier.parties
        self._barrier = barrier
        self._board = board

    def _shown(self, mine: Any) -> list[Any]:
        """What every worker has put on the board, by rank."""
        self._board[self.rank] = mine
        self.wait()
        shown = list(self._board)
        self.wait()
        return shown

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor.copy_(torch.stack(self._shown(tensor.clone())).sum(dim=0))

    def send_all(self, tensor: Tensor, source: int = 0) -> Tensor:
        return tensor.copy_(self._shown(tensor.clone())[source])

    def gather(self, tensor: Tensor, lengths: Sequence[int]) -> Tensor:
        parts = self._shown(tensor.clone())
        assert [part.shape for part in parts] == [(length,) for length in lengths]
        assert len({part.dtype for part in parts}) == 1
        return torch.cat(parts)

    def exchange(self, parts: Sequence[Tensor]) -> list[Tensor]:
        sent = self._shown([part.clone() for part in parts])
        received = [row[self.rank] for row in sent]
        assert all(part.shape == parts[self.rank].shape for part in received)
        return received

    def wait(self) -> None:
        try:
            self._barrier.wait()
        except threading.BrokenBarrierError:
            raise WorkerLost("a worker does not answer") from None


def together(
    work: Callable[[WorkerGroup], Any], size: int, seconds: float = 60.0
) -> list[Any | BaseException]:
    """`work` done by `size` workers at once: what each returned or raised, by rank."""
    barrier, board = threading.Barrier(size, timeout=seconds), [None] * size
    results: list[Any] = [None] * size

    def worker(rank: int) -> None:
        torch.set_num_threads(1)
        try:
            results[rank] = work(ThreadGroup(rank, barrier, board))
        except BaseException as error:
            results[rank] = error

    threads = [threading.Thread(target=worker, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
