"""What stages took, and how fast they trained, as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...amounts import duration


def took(cost: Mapping[str, Any]) -> str:
    """3 min of stages, 2 min of CPU, 0 s of GPU."""
    return (
        f"{duration(cost['seconds'])} of stages, {duration(cost['cpu_seconds'])} of CPU, "
        f"{duration(cost['gpu_seconds'])} of GPU"
    )


def spent(cost: Mapping[str, Any]) -> str:
    """What all stages took, beside what the plan said of those that are done."""
    planned, text = cost["planned_seconds_of_done"], took(cost)
    if planned:
        text += f"; {duration(planned)} were planned for them"
        text += f" ({cost['seconds'] / planned:.2g} times as long)" if cost["seconds"] else ""
    return f"{text}; {duration(cost['planned_seconds'])} planned for all"


RATES = ("rows/s", "tokens/s", "padding", "TFLOP/s", "MFU")


def rates(found: Mapping[str, float]) -> list[str]:
    """Rates of training, in the order of `RATES`; a dash where one was not measured."""
    shown = (
        ("samples_per_second", "{:,.0f}"),
        ("tokens_per_second", "{:,.0f}"),
        ("padding_share", "{:.0%}"),
        ("tflops", "{:.3g}"),
        ("mfu", "{:.1%}"),
    )
    return [form.format(found[name]) if name in found else "-" for name, form in shown]
