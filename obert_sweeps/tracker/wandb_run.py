"""One W&B run, written from plain data. The only file that imports W&B; whatever fails, raises.

Run ids are functions of what was run, so whatever is written again meets its earlier self: online,
`resume="allow"` goes on behind the last row that the server has; offline, W&B cannot resume and
writes another folder under `STORE/wandb`, and whoever reads merges by id. History rows carry the
stage's own step, as W&B's step too, and the time they were made at.

Credentials are W&B's business (`wandb login`, WANDB_API_KEY): there is no key for them here, and no
prompt.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .run_content import Ending
from .told import Told, mark

ONLINE_SECONDS = 15.0  # for a run to begin, and ...
UPLOAD_SECONDS = 120.0  # ... for the rest of it to arrive: an artifact may be some megabytes


class WandbRun:
    """A run that is open. Raises what W&B raises, in every method."""

    def __init__(
        self,
        store: str,
        opening: Mapping[str, Any],
        *,
        project: str,
        entity: str | None,
        mode: str = "offline",
    ) -> None:
        wandb = _wandb(store)
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            raise RuntimeError("no W&B credentials; type `wandb login`")
        self.told = Told(opening)
        self.whole = True  # whoever loses a part of it says so
        self.ended = False
        self._time: float | None = None  # of the last row
        self._run = wandb.init(
            project=project,
            entity=entity,
            mode=mode,
            dir=os.path.abspath(store),  # W&B adds the last part, wandb/
            resume="allow",
            settings=_settings(wandb),
            **opening,
        )
        self._first = int(self._run.starting_step or 0)  # of the rows that the server lacks

    def axes(self) -> None:
        """Curves over the stage's own step."""
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("epoch", step_metric="step", hidden=True)
        for kind in ("train/*", "eval/*"):
            self._run.define_metric(kind, step_metric="step")

    def row(self, row: Mapping[str, Any]) -> None:
        self.told.add(row)
        self._time = row.get("_timestamp", self._time)
        step = row.get("step")
        if step is None or step >= self._first:
            self._run.log(dict(row), step=step)

    def close(self, ending: Ending) -> None:
        """End the run; its folder is then marked as whole, if nothing of it was lost."""
        self.told.end(ending)
        media = dict(ending.media or {})
        if media and (ending.step is None or ending.step >= self._first):
            row = {key: _medium(content) for key, content in media.items()}
            if (when := ending.time or self._time) is not None:
                row["_timestamp"] = when
            self._run.log(row, step=ending.step)
        if ending.table is not None:
            self._report(ending)
        self._run.summary.update(ending.summary)
        self.abandon(ending.exit_code)
        if self.whole:
            mark(Path(self._run.dir).parent, self.told, self._run.url)

    def abandon(self, exit_code: int = 1) -> None:
        """End the run as it is."""
        self._run.finish(exit_code=exit_code)
        self.ended = True

    def _report(self, ending: Ending) -> None:
        import wandb

        assert ending.table is not None
        table = wandb.Table(columns=ending.table["columns"], data=ending.table["rows"])
        artifact = wandb.Artifact("report", type="report")
        artifact.add(table, "cells")
        for path in ending.files:
            artifact.add_file(path, policy="immutable", skip_cache=True)
        logged = self._run.log_artifact(artifact)
        if not self._run.offline:
            logged.wait(timeout=int(UPLOAD_SECONDS))  # else its failure would pass unseen


def forget_service() -> None:
    """End W&B's service, which would refuse the id of a run that it failed to start."""
    import wandb

    wandb.teardown(exit_code=1)


def _wandb(store: str) -> Any:
    # Before the import: no error reports or usage figures to anyone, unless the user wants it; what
    # waits for its upload lies in the store and not in the home folder.
    folder = os.path.join(os.path.abspath(store), "wandb")
    os.makedirs(folder, exist_ok=True)
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_DATA_DIR", folder)
    import wandb

    return wandb


def _medium(content: Mapping[str, Any]) -> Any:
    import wandb

    if "html" in content:
        return wandb.Html(content["html"], inject=False)
    import numpy

    return wandb.Histogram(
        np_histogram=numpy.histogram(content["values"], bins=20, range=(0.0, 1.0))
    )


def _settings(wandb: Any) -> Any:
    """Quiet, cheap, and nothing about the machine, its user, its code or its git remotes."""
    wanted = {
        "silent": True,
        "quiet": True,
        "console": "off",
        "reinit": "create_new",  # beside any open run, never a continuation of it
        "disable_code": True,
        "disable_git": True,
        "disable_job_creation": True,
        "save_code": False,
        "symlink": False,  # several workers share the folder
        "host": "",
        "program": "",
        "init_timeout": ONLINE_SECONDS,
        "finish_timeout": UPLOAD_SECONDS,
        "finish_timeout_raises": True,
        "x_disable_meta": True,
        "x_disable_stats": True,
        "x_disable_machine_info": True,
        "x_save_requirements": False,
        "x_transaction_log_flush_interval": 5.0,  # seconds of history a kill can cost
    }
    # The x_ settings come and go with W&B's versions.
    known = wandb.Settings.model_fields
    return wandb.Settings(**{key: value for key, value in wanted.items() if key in known})
