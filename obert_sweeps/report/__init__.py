"""From the store to a judgement: measured beside published, verdicts, claims, audit, cost.

`build` makes the report as plain data, `write` its three files, `terminal` what the screen shows.
"""

from __future__ import annotations

from .audit import audit
from .build import build
from .files import write
from .terminal import terminal

__all__ = ["audit", "build", "terminal", "write"]
