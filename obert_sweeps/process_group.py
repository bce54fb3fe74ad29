"""Several processes as the workers of one stage, joined by torch.distributed."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import accumulate
from typing import Any

import torch
import torch._dynamo  # an optimiser does; where a group exists by then, its sockets stay open
import torch.distributed as dist
from torch import Tensor

from .schema import WorkerLost, first_line
from .worker_group import WorkerGroup

_LAST_WORD_SECONDS = 5.0  # how long to wait for what a worker said before it left
_POLL_SECONDS = 0.0002  # between two looks at a GPU's exchange
_SIOCGIFADDR = 0x8915  # Linux: the address of a network interface

Works = Sequence[Any]  # torch.distributed's handles of what is under way
Ended = Callable[[float], Exception | None]


class ProcessGroup(WorkerGroup):
    """Several processes joined by torch.distributed: gloo over TCP, between GPUs NCCL.

    No exchange takes longer than `seconds`. One that fails raises WorkerLost, or what `ended`
    gives: why another worker has ended, if that is found out within the seconds it is told. After
    that the group is of no more use. Made by `joined`.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        device: torch.device,
        seconds: float,
        ended: Ended,
    ) -> None:
        self.rank, self.size = rank, size
        self.device = torch.device("cuda") if device.type == "cuda" else torch.device("cpu")
        self.seconds = seconds
        self._ended = ended

    def sum(self, tensor: Tensor) -> Tensor:
        return self._in_place(tensor, lambda whole: [dist.all_reduce(whole, async_op=True)])

    def send_all(self, tensor: Tensor, source: int = 0) -> Tensor:
        return self._in_place(tensor, lambda whole: [dist.broadcast(whole, source, async_op=True)])

    def gather(self, tensor: Tensor, lengths: Sequence[int]) -> Tensor:
        if lengths[self.rank] != len(tensor):
            raise ValueError(f"worker {self.rank} has {len(tensor)}, not {lengths[self.rank]}")
        whole = torch.empty(sum(lengths), dtype=tensor.dtype, device=self.device)
        places = [whole[end - n : end] for n, end in zip(lengths, accumulate(lengths), strict=True)]
        places[self.rank].copy_(tensor)
        self._run(
            lambda: [
                dist.broadcast(place, rank, async_op=True)
                for rank, place in enumerate(places)
                if len(place)
            ]
        )
        return whole.to(tensor.device)

    def exchange(self, parts: Sequence[Tensor]) -> list[Tensor]:
        own = parts[self.rank]
        ready = [part.to(self.device).contiguous() for part in parts]
        found = [own if r == self.rank else torch.empty_like(ready[self.rank]) for r in self._ranks]
        others = [rank for rank in self._ranks if rank != self.rank]
        calls = [dist.P2POp(dist.isend, ready[r], r) for r in others if ready[r].numel()]
        calls += [dist.P2POp(dist.irecv, found[r], r) for r in others if found[r].numel()]
        if calls:
            self._run(lambda: dist.batch_isend_irecv(calls))
        return [part.to(own.device) for part in found]

    def wait(self) -> None:
        self.sum(torch.zeros(1, device=self.device))

    @property
    def _ranks(self) -> range:
        return range(self.size)

    def _in_place(self, tensor: Tensor, start: Callable[[Tensor], Works]) -> Tensor:
        with torch.no_grad():
            whole = tensor.detach().to(self.device).contiguous()
            self._run(lambda: start(whole))
            if whole.data_ptr() != tensor.data_ptr():
                tensor.copy_(whole)
        return tensor

    def _run(self, start: Callable[[], Works]) -> None:
        """Start an exchange and return when this worker's part of it is done."""
        try:
            for work in start():
                if self.device.type == "cuda":
                    self._poll(work)
                work.wait()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise self._ended(_LAST_WORD_SECONDS) or WorkerLost(
                f"worker {self.rank} of {self.size} lost contact with another: {_told(error)}"
            ) from error

    def _poll(self, work: Any) -> None:
        """NCCL waits for ever for a process that is gone; we do not."""
        begun = looked = time.monotonic()
        while not work.is_completed():
            now = time.monotonic()
            if now - begun > self.seconds:
                raise RuntimeError(f"no answer for {self.seconds:g} s")
            if now - looked > 1.0:
                if (reason := self._ended(0.0)) is not None:
                    raise reason
                looked = now
            time.sleep(_POLL_SECONDS)


class Meeting:
    """Where the workers of one group meet: a TCP port of rank 0, on one of its addresses."""

    def __init__(self, address: str, size: int, seconds: float) -> None:
        listener = socket.create_server((address, 0))
        self.address, self.port = listener.getsockname()[:2]
        self.store = _store(address, self.port, size, seconds, listener.detach())


@contextmanager
def joined(
    meeting: Meeting | tuple[str, int],
    rank: int,
    size: int,
    *,
    device: str,
    seconds: float,
    address: str | None = None,
    ended: Ended = lambda seconds: None,
) -> Iterator[ProcessGroup]:
    """Join the group as worker `rank`; leave it at the end, whatever the others do.

    Rank 0 gives its Meeting, the others that one's address and port. `address` is this worker's
    own, by which the others reach it; without one, that of its host's name. Raises WorkerLost if
    not all have come within `seconds`.
    """
    kind = torch.device(device)
    on_gpu = kind.type == "cuda"
    if address is not None and (interface := _interface(address)) is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = interface
    try:
        if isinstance(meeting, Meeting):
            store = meeting.store
        else:
            store = _store(*meeting, size, seconds)
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            # NCCL's own watchdog ends the process; it is for what `_poll` cannot see.
            timeout=timedelta(seconds=2 * seconds if on_gpu else seconds),
        )
    except RuntimeError as error:
        raise ended(_LAST_WORD_SECONDS) or WorkerLost(
            f"worker {rank} of {size} did not meet the others: {_told(error)}"
        ) from error
    try:
        yield ProcessGroup(rank, size, kind, seconds, ended)
    finally:
        with suppress(RuntimeError):  # a broken group is left all the same
            dist.destroy_process_group()


def _store(
    address: str, port: int, size: int, seconds: float, listener: int | None = None
) -> dist.TCPStore:
    return dist.TCPStore(
        address,
        port,
        size,
        is_master=listener is not None,
        timeout=timedelta(seconds=seconds),
        wait_for_workers=False,
        master_listen_fd=listener,
    )


def _interface(address: str) -> str | None:
    """The network interface of an IPv4 address of this machine; None if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                asked = struct.pack("256s", name.encode()[:15])
                found = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, asked)
                if socket.inet_ntoa(found[20:24]) == address:
                    return name
    return None


def _told(error: Exception) -> str:
    """Without the place in gloo's own source that its messages begin with."""
    return re.sub(r"^\[[^\]]*\] ", "", first_line(error))
