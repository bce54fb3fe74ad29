"""report.csv: a row a cell and metric, for whoever goes on computing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from .effort import QUANTITIES

COLUMNS = (
    *("cell", "table", "task", "model", "method", "sparsity", "pattern", "metric"),
    *("published", "measured", "sd", "interval_low", "interval_high", "seeds", "diverged_seeds"),
    *("difference", "half_width", "margin", "seeds_to_decide", "metric_verdict", "cell_verdict"),
    *("under_assumptions", "recovery", "published_recovery", "rank", "rank_of"),
    *("published_rank", "published_rank_of", *QUANTITIES, "stage_ids"),
)


def sheet(report: Mapping[str, Any]) -> str:
    """Metrics in points, shares 0..1, times in seconds; an unknown value is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for entry in report["cells"]:
        writer.writerows(_rows(entry))
    return out.getvalue()


def _rows(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    same = ("table", "task", "model", "method", "sparsity", "pattern")
    ranked = ("recovery", "published_recovery", "rank", "rank_of")
    for metric in dict.fromkeys([*entry["published"], *entry["measured"]]):
        judged = entry["by_metric"].get(metric) or {}
        low, high = entry["interval"].get(metric) or (None, None)
        yield {
            "cell": entry["id"],
            **{name: entry[name] for name in same},
            "metric": metric,
            "published": entry["published"].get(metric),
            "measured": entry["measured"].get(metric),
            "sd": entry["sd"].get(metric),
            "interval_low": low,
            "interval_high": high,
            "seeds": " ".join(map(str, entry["seeds"])),
            "diverged_seeds": " ".join(map(str, entry["diverged"])),
            **{
                name: judged.get(name)
                for name in ("difference", "half_width", "margin", "seeds_to_decide")
            },
            "metric_verdict": judged.get("verdict"),
            "cell_verdict": entry["verdict"],
            "under_assumptions": bool(entry["assumed"]),
            **{name: entry[name] for name in ranked},
            **{name: entry[name] for name in ("published_rank", "published_rank_of")},
            **{name: entry["effort"][name] for name in QUANTITIES},
            "stage_ids": " ".join(entry["finals"].values()),
        }
