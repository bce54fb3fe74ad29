"""Memory budgets for tests that want a certain number of Fisher blocks to fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from obert_sweeps.method.obs.rounds import plan_rounds
from obert_sweeps.schema import StageError
from obert_sweeps.sparsity.pattern import pattern_named


def block_bytes(block_size: int) -> int:
    """A float64 triangle, and the account of its rounding."""
    return 8 * block_size * (block_size + 1) // 2 + 32


def budget_for(
    blocks: int,
    sizes: Mapping[str, int],
    block_size: int,
    pattern: str,
    scope: Any = "global",
    workers: int = 1,
) -> int:
    """Bytes under which so many blocks fit a worker: the least that is not refused, and more."""

    def refused(budget: int) -> bool:
        try:
            plan_rounds(sizes, block_size, pattern_named(pattern), scope, budget, workers=workers)
        except StageError:
            return True
        return False

    low, high = 0, 1 << 30
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if refused(middle) else (low, middle)
    return high + (blocks - 1) * block_bytes(block_size)
