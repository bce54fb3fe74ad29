"""What a stage's CPU time counts."""

from __future__ import annotations

import subprocess
import sys

from obert_sweeps.train.cost import read_clocks, spent_since

BURN = "import time; until = time.process_time() + 0.3\nwhile time.process_time() < until: pass"


def test_the_work_of_a_process_that_a_stage_started_is_its_own() -> None:
    """An engine may run in a process of its own."""
    begun = read_clocks()
    subprocess.run([sys.executable, "-c", BURN], check=True)
    assert spent_since(begun).cpu >= 0.28
    again = read_clocks()
    assert spent_since(again).cpu < 0.2
