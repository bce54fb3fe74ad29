"""Which stages of a plan are still to be run."""

from __future__ import annotations

from collections.abc import Sequence

from ..schema import Stage
from ..store import Store


def to_run(stages: Sequence[Stage], store: Store) -> list[Stage]:
    """Those without a result, and those whose model is gone and is needed again by one of them.

    What a teacher says is for its students: where none of them is to be run, nor is its stage.
    `stages`: parents first, as a plan has them. Their order is kept.
    """
    planned = {stage.id: stage for stage in stages}
    waiting = {stage.id for stage in stages if store.result(stage.id) is None}
    for stage in reversed(stages):
        if stage.id in waiting:
            parents = (set(stage.parents.values()) & planned.keys()) - waiting
            waiting |= {parent for parent in parents if store.lacks_model(planned[parent])}
    needed = {p for stage in stages if stage.id in waiting for p in stage.parents.values()}
    waiting -= {
        stage.id for stage in stages if stage.recipe.get("kind") == "teacher_logits"
    } - needed
    return [stage for stage in stages if stage.id in waiting]
