"""What measurements share: a device's clock and memory, and configuration leaves on other data."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from obert_sweeps.make import make
from obert_sweeps.model.base import Encoder

CONF = Path(__file__).resolve().parent.parent / "conf"
TASKS = {"sst2": "sst2", "mnli": "mnli", "squad_by_article": "squad"}  # by the folder of its rows


def synchronise(device: torch.device | str) -> None:
    """Wait until a GPU has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(device: torch.device | str) -> int:
    """The most bytes this process has held so far, on the device that is measured."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def clock_of(device: torch.device | str, threads: int) -> Callable[[], float]:
    """Processor time where one thread does all the work, since other programs may be running."""
    alone = torch.device(device).type == "cpu" and threads == 1
    return time.process_time if alone else time.perf_counter


def leaf(group: str, name: str, **changes: Any) -> dict[str, Any]:
    """A configuration leaf, with some keys said otherwise."""
    return yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8")) | changes


def encoder_named(name: str, path: str | None = None) -> Encoder:
    """A model's leaf as an encoder, of the checkpoint at `path`; without one of random weights."""
    described = leaf("model", name, hub=None, path=path, from_config=not path)
    del described["note"]
    encoder: Encoder = make(described, [], Encoder)
    return encoder


def task_leaf(name: str, data: Path) -> dict[str, Any]:
    """The leaf of one of TASKS, whose rows are DATA/<name>/*.parquet."""
    return leaf("task", TASKS[name], source="folder", folder=str(data / name))
