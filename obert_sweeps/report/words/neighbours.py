"""Cells beside one's own as people read them; shared by markdown, HTML and the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..facts.outcome import as_asked_for
from .numbers import share, with_deviation

HEAD = ("cell", "with", "% pruned", "measured", "of its dense model", "seeds")


def row(row: Mapping[str, Any]) -> list[str]:
    """A cell beside one's own, in the order of `HEAD`."""
    return [
        row["id"],
        " ".join(row["settings"]),
        pruned(row),
        scores(row),
        share(row["recovery"]),
        str(len(row["seeds"])),
    ]


def pruned(row: Mapping[str, Any]) -> str:
    """Of a neighbour, in per cent, as measured; with the pattern where it is not single weights.

    For instance: 95 block4, or 70.2 (90 asked for).
    """
    pattern = "" if row["pattern"] in ("dense", "unstructured") else row["pattern"]
    asked, share = row["sparsity"], row["measured_sparsity"]
    if as_asked_for(share, asked):
        return f"{100 * asked:g} {pattern}".strip()
    return f"{100 * share:.1f} {pattern}".strip() + f" ({100 * asked:g} asked for)"


def scores(row: Mapping[str, Any]) -> str:
    """Of a neighbour, with the deviation over seeds where there is one: 88.51±0.12 / 81.40±0.20."""
    parts = [with_deviation(row, name) for name in row["measured"]]
    return " / ".join(parts) or "does not converge"
