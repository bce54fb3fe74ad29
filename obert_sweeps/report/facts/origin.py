"""Whose values the report compares with, which program wrote it, and of when its results are."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from ... import __version__
from ...catalogue.layouts import DOCUMENT
from .views import StoreView


def origin(stages: Iterable[str], store: StoreView) -> dict[str, str | None]:
    """`newest_result` is when the last of `stages` finished; None where none records it.

    The time of writing is not said: the same results make the same report.
    """
    results = (store.result(stage) for stage in stages)
    times = [found["finished"] for found in results if found and found.get("finished")]
    newest = f"{datetime.fromtimestamp(max(times), UTC):%Y-%m-%d %H:%M} UTC" if times else None
    return {
        "published": DOCUMENT,
        "program": f"obert-sweeps {__version__}",
        "newest_result": newest,
    }
