"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP) while a plan runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

from ..schema import Interrupted

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def on_stop(take: Callable[[int], None]) -> Iterator[None]:
    """Within it `take` gets the number of the signal; outside the main thread nothing changes.

    A SIGHUP that is ignored, as under nohup, stays so.
    """

    def handler(signum: int, frame: FrameType | None) -> None:
        take(signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    before = {number: signal.signal(number, handler) for number in _STOPS if number not in kept}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def interruptible() -> AbstractContextManager[None]:
    """Such a signal raises Interrupted where the process is; leases are then given back."""

    def stop(signum: int) -> None:
        raise Interrupted(signum)

    return on_stop(stop)
