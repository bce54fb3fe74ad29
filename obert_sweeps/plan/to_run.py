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
    needed: set[str] = set()  # by a stage to come; children are looked at before their parents
    for stage in reversed(stages):
        if stage.recipe.get("kind") == "teacher_logits" and stage.id not in needed:
            waiting.discard(stage.id)
        if stage.id in waiting:
            parents = set(stage.parents.values())
            needed |= parents
            waiting |= {p for p in parents & planned.keys() if store.lacks_model(planned[p])}
    return [stage for stage in stages if stage.id in waiting]
