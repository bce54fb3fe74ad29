"""Where a stage's W&B run is to be seen."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...tracker.told import written

RunLink = Callable[[str], str | None]


def no_run(stage_id: str) -> None:
    """Of a store without W&B."""


def run_links(root: Path, tracker: Mapping[str, Any]) -> RunLink:
    """Stage id -> the address of its run, None where it has none.

    `tracker` is the tracker leaf as plain data. A run's page is known where it was uploaded from
    here, or where W&B is online and its entity is named; else there is the run's newest folder
    below ROOT/wandb, relative to ROOT/report.
    """
    here = {run.run: run.url or f"../wandb/{run.folder.name}/" for run in written(root / "wandb")}
    if tracker.get("mode") == "online" and tracker.get("entity"):
        site = os.environ.get("WANDB_BASE_URL", "https://wandb.ai").replace("//api.", "//")
        base = f"{site.rstrip('/')}/{tracker['entity']}/{tracker.get('project')}/runs/"
        uploaded = {run: link for run, link in here.items() if "://" in link}
        return lambda stage_id: uploaded.get(stage_id, base + stage_id)
    return here.get
