"""From the store to a judgement: measured beside published, verdicts, claims, audit, cost.

`build` makes the report as plain data, `read_traces` what its plots need beside, `write` the files,
`terminal` what the screen shows.
"""

from __future__ import annotations

from .audit import audit
from .build import build
from .fairness import fairness
from .files import write
from .links import run_links
from .terminal import terminal
from .traces import read_traces

__all__ = ["audit", "build", "fairness", "read_traces", "run_links", "terminal", "write"]
