"""SIGINT and SIGTERM while a plan runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

from ..schema import Interrupted


@contextmanager
def on_stop(take: Callable[[int], None]) -> Iterator[None]:
    """Within it `take` gets the number of the signal; outside the main thread nothing changes."""

    def handler(signum: int, frame: FrameType | None) -> None:
        take(signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def interruptible() -> AbstractContextManager[None]:
    """SIGINT and SIGTERM raise Interrupted where the process is; leases are then given back."""

    def stop(signum: int) -> None:
        raise Interrupted(signum)

    return on_stop(stop)
