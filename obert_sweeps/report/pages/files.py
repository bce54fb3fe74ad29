"""Writing report.json, report.csv, inference.csv, report.md and report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...store.place.folder import FolderPlace
from ..facts.traces import Traces
from .html import html
from .links import RunLink, no_run
from .markdown import markdown
from .sheet import inference_sheet, sheet


def write(
    report: Mapping[str, Any],
    folder: str | Path,
    traces: Traces | None = None,
    run: RunLink = no_run,
) -> list[Path]:
    """Write the files, each atomically; the folder is made. Returns their paths.

    There are plots only where there are traces; `run` gives the W&B address of a stage.
    """
    place = FolderPlace(Path(folder))
    contents = {
        "report.json": json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False) + "\n",
        "report.md": markdown(report),
        "report.csv": sheet(report),
        "inference.csv": inference_sheet(report["inference"]),
        "report.html": html(report, traces, run),
    }
    for name, text in contents.items():
        place.write(name, text.encode())
    return [place.path / name for name in contents]
