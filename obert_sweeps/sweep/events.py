"""What a runner tells about a stage while it runs a plan."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """One change of one stage. Every stage of a plan ends in finished, failed or blocked.

    `started` comes again, with a reason, when a stage's process died and it goes on from its
    checkpoint, and after `held`, when another driver has left the stage unfinished.
    """

    kind: str  # started, finished, failed, blocked, held
    stage: str  # id
    outcome: dict[str, Any] = field(default_factory=dict)  # finished: id, status, reason
    reason: str = ""
    time: float = field(default_factory=time.time)


OnEvent = Callable[[Event], None]
