"""`launch`: print the file that starts this request on a cluster. Starts and writes nothing."""

from __future__ import annotations

import sys

from ...request.read import Loaded
from ...request.selection import select
from .launch_files import render


def main(loaded: Loaded) -> int:
    select(loaded)  # refuses a request that no cell matches
    sys.stdout.write(render(loaded))
    return 0
