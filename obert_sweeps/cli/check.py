"""What only torch's side can say of a plan: leaves that cannot be made, pruning that cannot be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..plan.dag import Plan
from ..request.read import Loaded
from ..schema import RequestError, Stage
from .child import ChildDied, ask


def restates(loaded: Loaded) -> bool:
    """Whether a request says more of a stage than what is shipped, which tests hold to this."""
    own = any(o.key_or_group.startswith("preset.") for o in loaded.overrides)
    return own or bool(loaded.choices)


def check_stages(stages: Sequence[Stage], plan: Plan, allow_targets: list[str]) -> None:
    """Make the leaves of some of a plan's stages, and ask the methods, in a short-lived process.

    Raises RequestError with what a constructor or a method refuses, before anything is started.
    """
    said = json.dumps(question(stages, plan, allow_targets))
    try:
        faults = json.loads(ask("-m", "obert_sweeps.stage.check", said=said))
    except ChildDied as died:
        raise RequestError(
            f"the leaves could not be checked: {died}. See: obert-sweeps doctor"
        ) from died
    if faults:
        raise RequestError("\n".join(faults))


def question(stages: Sequence[Stage], plan: Plan, allow_targets: list[str]) -> dict[str, Any]:
    """The arguments of `stage.check.faults`, each leaf and each pruning once."""
    leaves: dict[str, Any] = {}
    prunings: dict[str, Any] = {}
    for stage in stages:
        recipe = stage.recipe
        for group in ("task", "model", "method"):
            if group in recipe:
                leaf = {"group": group, "leaf": recipe[group]}
                leaves[json.dumps(leaf, sort_keys=True)] = leaf
        if stage.id in plan.pruning:
            asked = {
                "where": f"stage '{stage.tags['role']}' on {recipe['task']['name']}",
                "method": recipe["method"],
                "pattern": recipe["sparsity"]["pattern"],
                "steps": plan.pruning[stage.id],
            }
            prunings[json.dumps(asked, sort_keys=True)] = asked
    told = {"leaves": [*leaves.values()], "prunings": [*prunings.values()]}
    return told | {"allow_targets": allow_targets}
