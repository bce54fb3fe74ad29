"""Whether a cell would be what it is called: its schedule may make another model."""

from __future__ import annotations

from collections.abc import Mapping

from ..schema import RequestError, Stage
from .chain import Chain
from .link import Link


def check_cell(chain: Chain) -> None:
    """Raises RequestError where the chain's model is of another task, or not pruned as named."""
    cell, schedule = chain.cell, chain.notes["schedule"]
    trained = [link for link in chain.links.values() if isinstance(link, Link)]
    if trained and trained[-1].task not in ("cell", cell.task):
        raise RequestError(
            f"schedule={schedule} ends with training on {trained[-1].task}, which gives no "
            f"{cell.task} model to score. Use a schedule whose last stage is on the cell's task, "
            "for instance schedule=dense or schedule=oneshot."
        )
    if cell.pattern != "dense" and not _pruned(chain.final, chain.chains.stages):
        raise RequestError(
            f"schedule={schedule} prunes nothing, so {cell.id} would be a dense model. Use a "
            "schedule that prunes, for instance schedule=oneshot, or method=dense without "
            "sparsity=."
        )


def _pruned(stage_id: str, stages: Mapping[str, Stage]) -> bool:
    """By the stage itself, or by one whose masks it keeps."""
    stage = stages[stage_id]
    training = stage.recipe.get("training", {})
    if training.get("lock_pattern"):  # the zeros of the weights it starts from
        return True
    if training.get("pruning") and stage.recipe["sparsity"]["pattern"] != "dense":
        return True
    before = (stage.parents[part] for part in ("start", "masks") if part in stage.parents)
    return any(_pruned(parent, stages) for parent in before)
