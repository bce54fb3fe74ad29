"""The sign of each verdict, and how many cells have which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..judgement.verdicts import verdict_label

SIGNS = {  # verdict -> (sign readable without colour, kind of colour)
    "reproduced": ("✓", "good"),
    "better": ("▲", "good"),
    "worse": ("▼", "bad"),
    "undecided": ("?", "open"),
    "not_converged": ("✗", "bad"),
    "unpublished": ("·", "none"),
    "not_run": ("–", "none"),
    "blocked": ("⊘", "none"),
    "failed": ("✗", "bad"),
    "stand_in": ("≈", "open"),
    "held": ("✓", "good"),
    "broken": ("✗", "bad"),
}


def counts(entries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Verdict -> "12 reproduced", the most frequent first."""
    found = Counter(entry["verdict"] for entry in entries)
    return {token: f"{n} {verdict_label(token)}" for token, n in found.most_common()}


def tally(entries: Iterable[Mapping[str, Any]]) -> str:
    """12 reproduced, 3 undecided, …"""
    return ", ".join(counts(entries).values())
