"""What does not stop a request: other code of a method by now, inputs gone, a disk too small."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ..amounts import size
from ..plan.dag import Plan
from ..report.facts.environment import gone, of_other_code
from ..schema import Stage
from ..store import Store
from .answer import notice


def tell_of_changed_code(plan: Plan, done: Collection[str], store: Store) -> None:
    finished = [stage for stage in plan.wanted() if stage.id in done]
    for warning in of_other_code(finished, store):
        notice(
            f"{warning}. If the change matters, raise `version` in the class, and they and all that"
            " follows from them are computed again."
        )


def tell_gone(plan: Plan) -> None:
    """Inputs that are not here, beside an answer that does without them."""
    for warning in gone(plan):
        notice(warning)


MAKE_ROOM = "free space: obert-sweeps gc; or store=DIR on a larger disk"


def no_room_for(pending: Iterable[Stage], store: Store) -> str | None:
    """What is missing where the results to come are larger than what the store's disk has free.

    They are estimates and checkpoints come on top, so nothing is refused for it.
    """
    need, free = sum(stage.cost.get("disk_bytes", 0.0) for stage in pending), store.place.room()
    return f"{size(need)} of results to come, {size(free)} free" if need > free else None


def tell_of_room(pending: Iterable[Stage], store: Store) -> None:
    if (said := no_room_for(pending, store)) is not None:
        notice(f"{store.address} may not hold the results: {said}; {MAKE_ROOM}")
