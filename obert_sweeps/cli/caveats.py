"""Of results that are taken as they are: other code of a method by now, or inputs that are gone."""

from __future__ import annotations

from collections.abc import Collection

from ..plan.dag import Plan
from ..report.facts.environment import gone, of_other_code
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
