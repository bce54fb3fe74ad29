"""Of results that are taken as they are: other code of a method by now, or inputs that are gone."""

from __future__ import annotations

from collections.abc import Collection

from ..plan.dag import Plan
from ..plan.method_code import changed_since
from ..report.facts.environment import gone
from ..store import Store
from .answer import notice

_TOLD = 3  # ids in a line


def tell_of_changed_code(plan: Plan, done: Collection[str], store: Store) -> None:
    finished = (stage for stage in plan.wanted() if stage.id in done)
    for target, ids in changed_since(finished, store.stage).items():
        told = ", ".join(ids[:_TOLD]) + (", …" if len(ids) > _TOLD else "")
        notice(
            f"the code of {target} has changed since {len(ids)} finished stage(s) were computed"
            f" ({told}); their results are used as they are. If the change matters, raise `version`"
            " in the class, and they and all that follows from them are computed again."
        )


def tell_gone(plan: Plan) -> None:
    """Inputs that are not here, beside an answer that does without them."""
    for warning in gone(plan):
        notice(warning)
