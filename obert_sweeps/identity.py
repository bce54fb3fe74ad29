"""What a stage's id is the hash of: all that determines its result and nothing else.

Kind and version of its mathematics, recipe, seed, parents' ids, digests of the data and of the
weights it starts from. Not: paths, store, tracker, cluster, device, workers, library versions.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

VERSIONS = {
    "train": 2,  # 2: gradients of what is pruned for good do not count where they are clipped
    "export": 1,
    "benchmark": 1,
    "teacher_logits": 1,
}  # raised by hand when the mathematics of a kind of stage changes

# Likewise of a task's, by its class; those that are not here are at their first.
TASK_VERSIONS = {"obert_sweeps.task.squad.Squad": 2}  # 2: the loss does not see padding

# Where rows and weights come from is identified by digests, pinned revisions or the generator's
# settings instead (`inputs`): the same file under another path is the same input.
ORIGINS = {
    "task": (
        "source hub hub_config revision hub_splits more_hub data folder corpus generator"
        " official_rows"
    ).split(),
    "model": "hub revision path from_config config".split(),
}

# Keys that came after results were stored: at these values they say nothing new and are not
# hashed, so that what was computed before them is found again.
LATER: dict[str, dict[str, Any]] = {
    "training": {"prune_also": [], "rewind": None, "quantize": None, "group_by_length": 0},
    "pruning": {"until": None, "every_steps": None},
    "method": {"update": "simultaneous"},
}


def identity(
    recipe: dict[str, Any],
    seed: int,
    parents: dict[str, str],
    data: Any,
    weights: Any,
    method_version: int = 1,
) -> dict[str, Any]:
    """`weights` identifies the checkpoint of a stage without a `start` parent, else None.

    `method_version`: what the method's class says (`method.base.Method`).
    """
    whole = {
        "kind": recipe["kind"],
        "version": VERSIONS[recipe["kind"]],
        "recipe": hashed_part(recipe),
        "seed": seed,
        "parents": parents,
        "data": data,
    }
    if version := TASK_VERSIONS.get(str(recipe["task"].get("_target_"))):
        whole["task_version"] = version
    if method_version != 1:
        whole["method_version"] = method_version
    return whole if weights is None else whole | {"weights": weights}


def hashed_part(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe without where rows and weights come from, and without unused later keys."""
    parts = {
        part: {k: v for k, v in value.items() if k not in ORIGINS[part]}
        if part in ORIGINS
        else _without_later(part, value)
        for part, value in recipe.items()
    }
    if not recipe.get("training", {}).get("epochs", 1):  # no batch, so none by length
        parts["training"] = {k: v for k, v in parts["training"].items() if k != "group_by_length"}
    if parts.get("training", {}).get("pruning"):
        pruning = _without_later("pruning", parts["training"]["pruning"])
        parts["training"] = {**parts["training"], "pruning": pruning}
    return parts


def _without_later(part: str, value: Any) -> Any:
    later = LATER.get(part)
    if not later:
        return value
    return {k: v for k, v in value.items() if k not in later or v != later[k]}


def digest(identity: dict[str, Any]) -> str:
    """Sixteen hex digits of the SHA-256 of the identity's canonical JSON."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
