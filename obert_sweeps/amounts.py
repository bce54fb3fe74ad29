"""Counts, seconds and bytes as a person reads them."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """1 cell, 2 cells."""
    return f"{number} {thing}" + ("" if number == 1 else "s")


def duration(seconds: float) -> str:
    """0 s, 0.4 s, 42 s, 3 min 05 s, 2 h 10 min, 3 d 4 h."""
    if seconds < 0.05:
        return "0 s"
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def rounded(number: float) -> str:
    """Three digits, and never an exponent for what is large: 0.0118, 15.3, 4,930."""
    return f"{float(f'{number:.3g}'):,.15g}"


def size(count: float) -> str:
    """Bytes, in thousands: 15 kB, 3.1 MB, 24.0 GB."""
    for unit, one in (("kB", 1e3), ("MB", 1e6)):
        if count < 999.95 * one:
            return f"{count / one:.1f} {unit}"
    return f"{count / 1e9:.1f} GB"
