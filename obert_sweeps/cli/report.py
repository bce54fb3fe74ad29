"""`report`: measured beside published, from what the store holds."""

from __future__ import annotations

from ..plan import make_plan
from ..request import Loaded
from ..store import Store
from .run import conclude


def main(loaded: Loaded) -> int:
    store = Store(str(loaded.request.store))
    store.check_writable()
    return conclude(loaded, make_plan(loaded), store)
