"""How much memory a step may use: what was asked for, or what is free."""

from __future__ import annotations

import platform
import zlib
from pathlib import Path

import psutil
import torch

from ...worker_group import WorkerGroup

_SHARE = 0.8  # of what is free: the rest is for the passes that make gradients


def budget(asked: int | None, group: WorkerGroup, device: torch.device) -> int:
    """Bytes each worker may use on `device`: `asked`, or its share of what is free there.

    Every worker gets the same answer, the least that one of them has. Workers on the CPUs of one
    machine share what is free on it.
    """
    host = zlib.crc32(platform.node().encode())
    mine = free(device) if asked is None else asked
    told = group.gather(torch.tensor([mine, host], device=device), [2] * group.size).view(-1, 2)
    if asked is not None:
        return int(told[:, 0].min())
    beside = told[:, 1].unique(return_counts=True)[1].max() if device.type == "cpu" else 1
    return int(told[:, 0].min() / beside * _SHARE)


def free(device: torch.device) -> int:
    """Free bytes of a device.

    On a GPU without what torch keeps for reuse: the passes that make gradients will want that. On
    a CPU within the limits of the control group (container, batch job) as well as the machine.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(psutil.virtual_memory().available, *_left_in_control_groups())


def _left_in_control_groups(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[int]:
    """Bytes left under each memory limit above this process: cgroup v2, or v1's memory controller.

    A file page that can be dropped counts as free. Where nothing is limited, or this is not Linux,
    one very large number.
    """
    left = [1 << 62]
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return left
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top = root if not controllers else root / "memory"
        names = ("memory.max", "memory.current", "inactive_file")
        if controllers:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        here = top / path.lstrip("/")
        for folder in (here, *here.parents):
            if folder.is_relative_to(top):
                left += _left(folder, *names)
    return left


def _left(folder: Path, limit: str, usage: str, droppable: str) -> list[int]:
    try:
        most = (folder / limit).read_text().strip()
        if most == "max":
            return []
        used = int((folder / usage).read_text())
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return [max(0, int(most) - used + int(counts.get(droppable, 0)))]
    except OSError:
        return []  # no such group in this namespace
