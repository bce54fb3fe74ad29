"""Writing report.json, report.csv, inference.csv, report.md and report.html."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "report.json": json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False) + "\n",
        "report.md": markdown(report),
        "report.csv": sheet(report),
        "inference.csv": inference_sheet(report["inference"]),
        "report.html": html(report, traces, run),
    }
    return [_replace(folder / name, text) for name, text in contents.items()]


def _replace(path: Path, text: str) -> Path:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
