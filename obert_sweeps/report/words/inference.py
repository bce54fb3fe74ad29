"""Inference as people read it; shared by markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...catalogue.cell import metric_named

HEAD = (
    *("engine", "file", "batch × length", "dense ms (p95)", "ms (p95)"),
    *("rows a second", "speed-up", "of CPU time", "in integers", "scores in it"),
)


def rows(entry: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The rows of a benchmark under `HEAD`, as people read them."""
    return [
        (
            f"{_label(row)} {row['version'].partition('-')[0]}",
            row["file"],
            f"{row['batch']} × {row['length']}",
            _time(row["dense_ms"], row["dense_p95_ms"]),
            _time(row["ms"], row["p95_ms"]),
            f"{row['throughput']:,.1f}",
            _times(row["speedup"]),
            _times(row["cpu_speedup"]),
            "–" if row["integer_share"] is None else f"{row['integer_share']:.0%}",
            _scores(row["metrics"]) or "–",
        )
        for row in entry["rows"]
    ]


SIZES = ("file", "MB", "gzip MB", "zstd MB", "dense raw by gzip", "gzip by gzip", "raw by raw")


def sizes(entries: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The exported files under `SIZES`; the document counts dense raw by compressed gzip bytes."""
    return [
        (
            entry["file"],
            *(f"{entry[kind] / 1e6:,.3f}" for kind in ("raw", "gzip", "zstd")),
            *(_times((entry["ratios"] or {}).get(k)) for k in ("document", "gzip", "raw")),
        )
        for entry in entries
    ]


def machine(entry: Mapping[str, Any]) -> str:
    """AMD EPYC, 1 thread; 2 warm-ups, median of 10."""
    found, threads = entry["machine"], entry["threads"]
    devices = ", ".join(str(found[key]) for key in ("gpu", "cpu") if found.get(key))
    return (
        f"{devices}, {threads} thread{'' if threads == 1 else 's'};"
        f" after {entry['warmup']} warm-ups the median of {entry['repeats']}"
    )


def absent(entry: Mapping[str, Any]) -> list[str]:
    """Engines without figures, each with the reason, and how one that came later is measured."""
    lines = [f"{row['engine']} was {row['what']}: {row['reason']}" for row in entry["absent"]]
    if any(row["what"] == "missing" for row in entry["absent"]):
        lines.append(
            "to measure in an engine that has been installed since: delete the folder"
            f" stages/{entry['stage']} of the store and run the same command again"
        )
    return lines


def flags(entry: Mapping[str, Any]) -> dict[str, str]:
    """By engine its whole version, its licence where it is restricted, and its flags."""
    return {
        _label(row): "; ".join(
            part
            for part in (
                row["version"],
                row["licence"],
                ", ".join(f"{key}={value}" for key, value in row["flags"].items()),
            )
            if part
        )
        for row in entry["rows"]
    }


def _label(row: Mapping[str, Any]) -> str:
    """The engine; of torch's also how it ran, since it may be measured in more than one way."""
    flags = row["flags"]
    if "compiled" not in flags:
        return str(row["engine"])
    return f"{row['engine']}, {flags['precision']}, {'compiled' if flags['compiled'] else 'eager'}"


def _scores(metrics: Mapping[str, float | None]) -> str:
    return " / ".join(
        f"{metric_named(name).label} {value:.2f}"
        for name, value in metrics.items()
        if value is not None
    )


def _time(median: float | None, p95: float | None) -> str:
    return "–" if median is None else f"{median:,.2f} ({p95:,.2f})"


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}x"
