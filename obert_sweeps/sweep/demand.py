"""What stages ask of a cluster, checked before anything starts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..schema import RequestError, Stage


def bundle(resources: dict[str, float]) -> dict[str, float]:
    """Ray's words for the resources of one worker of a stage."""
    return {name.upper(): float(amount) for name, amount in resources.items() if amount}


def check_demand(stages: Sequence[Stage], nodes: Sequence[dict[str, float]]) -> None:
    """Raises RequestError naming the stages that do not fit: Ray would wait for ever.

    A worker must fit on a node, and all workers of a stage on the nodes together.
    """
    for stage in stages:
        asked = bundle(stage.resources)
        gpus = asked.get("GPU", 0.0)
        said = " and ".join(f"{amount:g} {name}" for name, amount in asked.items())
        if gpus > 1 and not gpus.is_integer():
            raise RequestError(
                f"stage {stage.name} ({stage.id}) asks for {said}: above one, GPUs are whole. "
                "Ask for a whole number, or for a share of one"
            )
        room = sum(_times(asked, node, stage.workers) for node in nodes)
        if 0 < room < stage.workers:
            raise RequestError(
                f"stage {stage.name} ({stage.id}) asks for {stage.workers} workers of {said} and "
                f"the cluster has room for {room}. Ask for less (cluster.workers_per_stage={room}),"
                " or name a larger cluster (cluster.address=HOST:PORT)"
            )
        if not room:
            largest = ", ".join(
                f"{max((node.get(name, 0.0) for node in nodes), default=0.0):g} {name}"
                for name in asked
            )
            gpus_lack = all(node.get("GPU", 0.0) < gpus for node in nodes)
            less = "cluster.gpus_per_stage=0" if gpus_lack else "cluster.cpus_per_stage=1"
            raise RequestError(
                f"stage {stage.name} ({stage.id}) asks for {said} and no node of the cluster has "
                f"more than {largest}. Ask for less ({less}), or name a larger "
                "cluster (cluster.address=HOST:PORT)"
            )


def _times(asked: dict[str, float], node: dict[str, float], most: int) -> int:
    """How often, up to `most`, `asked` fits into a node."""
    fits = [math.floor(node.get(name, 0.0) / amount + 1e-9) for name, amount in asked.items()]
    return min([most, *fits])


def most_at_once(stages: Sequence[Stage], nodes: Sequence[dict[str, float]]) -> int:
    """How many stages could run at the same time, of the kind that asks for least."""
    total = {name: sum(node.get(name, 0.0) for node in nodes) for node in nodes for name in node}
    most = 1
    for asked, workers in {(tuple(bundle(s.resources).items()), s.workers) for s in stages}:
        fits = [math.floor(total.get(n, 0.0) / (amount * workers) + 1e-9) for n, amount in asked]
        most = max(most, min(fits, default=1))
    return most
