"""How each method looks, the same in every plot."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from .panel import INK


@dataclass(frozen=True)
class Mark:
    """How a method looks: a colour told from the others without red and green, and a shape."""

    colour: str
    marker: str  # matplotlib's
    sign: str  # the same shape as a character, for legends


MARKS = {
    "dense": Mark(INK, "_", "–"),
    "magnitude": Mark("#8c8c8c", "s", "■"),
    "obert": Mark("#0072b2", "o", "●"),
    "l0": Mark("#e69f00", "v", "▼"),
    "movement": Mark("#56b4e9", "^", "▲"),
    "soft_movement": Mark("#009e73", "<", "◀"),
    "platon": Mark("#d55e00", "D", "◆"),
    "lottery": Mark("#cc79a7", "P", "✚"),
    "prune_ofa": Mark("#a08000", "X", "✖"),
    "random": Mark("#8c8c8c", "x", "×"),
}
# Of methods that nobody foresaw: by name, so that one looks the same in every report.
OTHERS = [Mark(INK, "*", "★"), Mark(INK, "h", "⬢"), Mark(INK, "p", "⬟"), Mark(INK, "d", "♦")]


def mark(method: str) -> Mark:
    """How a method looks in every plot."""
    return MARKS.get(method) or OTHERS[crc32(method.encode()) % len(OTHERS)]
