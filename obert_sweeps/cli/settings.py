"""What a request says of where its stages lie and run."""

from __future__ import annotations

from pathlib import Path

from ..plan.compose import to_plain
from ..request.read import Loaded
from ..schema import Runtime
from ..store import Store


def store_of(loaded: Loaded) -> Store:
    return Store(str(loaded.request.store))


def runtime_of(loaded: Loaded) -> Runtime:
    """What the cluster and tracker leaves and the root keys say about where and how to run."""
    request = loaded.request
    keys = ("device", "micro_batch", "checkpoint_seconds", "group_seconds", "memory_gb")
    scratch = request.cluster.scratch
    return Runtime(
        store=store_of(loaded).address,
        tracker=to_plain(request.tracker),
        allow_targets=list(request.allow_targets),
        scratch=None if scratch is None else str(Path(scratch).expanduser().absolute()),
        **{key: request.cluster[key] for key in keys},
    )
