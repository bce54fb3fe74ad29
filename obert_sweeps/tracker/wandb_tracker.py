"""W&B as the view of the store: a run a stage, and one light run a cell and seed.

Run ids are functions of what was run, so a resumed stage, or the runs rebuilt from the store, meet
their earlier selves. Offline, W&B cannot resume: each start writes a folder of its own under
`STORE/wandb`, and whoever reads or uploads them merges by id. History rows carry the stage's own
step, as W&B's step too, so rows written again after a resume fall on the same place.

Nothing here may fail or hold up a stage. In each process a mode that fails once is not tried again
(online falls back to offline), and every kind of trouble is logged once. Credentials are W&B's
business (`wandb login`, WANDB_API_KEY): there is no key for them here, and no prompt.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from ..schema import Interrupted, RequestError, Stage
from .base import Tracker

__all__ = ["WandbTracker", "cell_run_id", "stage_run_id"]

_log = logging.getLogger(__name__)
_MODES = ("offline", "online")
_TAG_LENGTH = 64  # W&B refuses longer ones
_NOT_PLOTTED = frozenset({"step", "epoch", "steps", "epochs", "time", "metrics"})
_SUMMARY = ("metrics", "final_metrics", "best_epoch", "rates", "cost", "environment", "reason")

# Of this process: modes that failed, kinds of trouble already reported, stage runs not yet ended.
_unusable: set[str] = set()
_reported: set[str] = set()
_open: list[Any] = []


def stage_run_id(stage_id: str) -> str:
    """The W&B run id of a stage: its own id (hexadecimal, so legal there)."""
    return stage_id


def cell_run_id(record: dict[str, Any]) -> str:
    """The W&B run id of a cell and seed, as made of the stages named in `record`.

    The stages are part of it: the same cell under another preset or budget is another result.
    """
    stages = record.get("stages") or []
    ids = sorted(stages.values() if isinstance(stages, dict) else stages)
    key = json.dumps([record["id"], record.get("seed"), ids])
    return "cell-" + hashlib.sha256(key.encode()).hexdigest()[:16]


class WandbTracker(Tracker):
    """Runs in W&B `project` of `entity`; `mode` is offline (files in the store) or online."""

    def __init__(
        self, *, project: str = "obert-sweeps", entity: str | None = None, mode: str = "offline"
    ) -> None:
        if mode not in _MODES:
            raise RequestError(
                f"tracker.mode={mode!r} is not a way W&B can run here; "
                "use tracker.mode=offline, tracker.mode=online or tracker=none"
            )
        self.project, self.entity, self.mode = project, entity, mode
        self._run: Any = None

    def start(self, stage: Stage, store: str) -> None:
        self._close_all(1)  # a worker is used for many stages: what interrupted ones left open
        self._run = self._new_run(
            store,
            id=stage_run_id(stage.id),
            name=stage.name,
            group=f"{stage.tags.get('task', '?')}/{stage.tags.get('model', '?')}",
            job_type=stage.tags.get("role") or str(stage.recipe.get("kind", "stage")),
            tags=_tags(*(stage.tags.get(key) for key in ("task", "model", "method", "sparsity"))),
            config=stage.recipe
            | {
                "stage": stage.id,
                "seed": stage.seed,
                "parents": stage.parents,
                "stand_in": stage.stand_in,
                "notes": stage.notes,
            },
        )
        run = self._run
        if run is not None:
            _open.append(run)
            self._attempt("axes", lambda: _define_axes(run))

    def log(self, record: dict[str, Any]) -> None:
        run = self._run
        if run is not None and (row := _history_row(record)):
            self._attempt("history", lambda: run.log(row, step=record.get("step")))

    def finish(self, result: dict[str, Any]) -> None:
        run = self._run
        if run is None:
            return
        status = str(result.get("status") or ("failed" if "reason" in result else "done"))
        summary = {"status": status} | {key: result[key] for key in _SUMMARY if key in result}
        if "overall" in (sparsity := result.get("sparsity") or {}):
            summary["sparsity"] = sparsity["overall"]
        self._attempt("summary", lambda: run.summary.update(summary))
        self._close_all(0 if status in ("done", "not_converged") else 1)

    def cell(self, record: dict[str, Any], store: str) -> None:
        run = self._new_run(
            store,
            id=cell_run_id(record),
            name=record["id"],
            group=f"table {record.get('table')}",
            job_type="cell",
            tags=_tags(
                *(record.get(key) for key in ("task", "model", "method")),
                _per_cent(record.get("sparsity")),
            ),
            config={"cell": record["id"]}
            | {
                key: record.get(key)
                for key in ("table", "task", "model", "method", "sparsity", "seed", "stages")
            },
        )
        if run is None:
            return
        summary = {
            key: record.get(key) for key in ("measured", "published", "difference", "verdict")
        }
        self._attempt("cell", lambda: (run.summary.update(summary), run.finish(exit_code=0)))

    def _new_run(self, store: str, **run: Any) -> Any:
        """A new W&B run, or None where W&B cannot be used in this process."""
        for mode in dict.fromkeys((self.mode, "offline")):
            if mode in _unusable:
                continue
            opened = self._attempt(f"{mode} run", partial(self._init, store, mode, run))
            if opened is not None:
                return opened
            _unusable.add(mode)
            if mode != "offline":
                self._attempt("service", _forget_service)
        return None

    def _init(self, store: str, mode: Any, run: dict[str, Any]) -> Any:
        # Before the import: no error reports or usage figures to anyone, unless the user wants it.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        if mode == "online" and not wandb.login(prompt=False, verify=False):
            raise RuntimeError("no W&B credentials; type `wandb login`")
        folder = os.path.abspath(store)  # W&B adds the last part, wandb/
        os.makedirs(os.path.join(folder, "wandb"), exist_ok=True)
        return wandb.init(
            project=self.project,
            entity=self.entity,
            mode=mode,
            dir=folder,
            resume="allow",
            settings=_settings(wandb),
            **run,
        )

    def _close_all(self, exit_code: int) -> None:
        """End the open stage run: a process has one stage at a time, whichever tracker began it."""
        self._run = None
        while _open:
            run = _open.pop()
            self._attempt("finish", partial(run.finish, exit_code=exit_code))

    def _attempt(self, what: str, action: Callable[[], Any]) -> Any:
        """`action()`, or None and a line in the log (the first time) where it fails."""
        try:
            return action()
        except Exception as error:
            _pass_on_interruption(error)
            if what not in _reported:
                _reported.add(what)
                _log.warning(
                    "W&B (%s): %s: %s; the stage goes on, the store has everything",
                    what,
                    type(error).__name__,
                    error,
                )
            return None


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
        "init_timeout": 15.0,
        "finish_timeout": 5.0,
        "x_disable_meta": True,
        "x_disable_stats": True,
        "x_disable_machine_info": True,
        "x_save_requirements": False,
        "x_transaction_log_flush_interval": 5.0,  # seconds of history a kill can cost
    }
    # The x_ settings come and go with W&B's versions.
    known = wandb.Settings.model_fields
    return wandb.Settings(**{key: value for key, value in wanted.items() if key in known})


def _forget_service() -> None:
    """End W&B's service, which would refuse the id of a run that it failed to start online."""
    import wandb

    wandb.teardown(exit_code=1)


def _define_axes(run: Any) -> None:
    run.define_metric("step", hidden=True)
    run.define_metric("epoch", step_metric="step", hidden=True)
    for kind in ("train/*", "eval/*"):
        run.define_metric(kind, step_metric="step")


def _history_row(record: dict[str, Any]) -> dict[str, Any]:
    """A record of metrics.jsonl in W&B's names: step, epoch, train/<name>, eval/<metric>."""
    row: dict[str, Any] = {key: record[key] for key in ("step", "epoch") if key in record}
    for name, value in record.items():
        if name not in _NOT_PLOTTED and isinstance(value, int | float):
            row[f"train/{name}"] = value
    for name, value in (record.get("metrics") or {}).items():
        row[f"eval/{name}"] = value
    return row


def _per_cent(sparsity: Any) -> Any:
    if isinstance(sparsity, int | float):
        return f"{100 * sparsity:g}" if sparsity else "dense"
    return sparsity


def _tags(*values: Any) -> list[str]:
    return list(dict.fromkeys(str(value)[:_TAG_LENGTH] for value in values if value))


def _pass_on_interruption(error: BaseException | None) -> None:
    """A signal that arrives inside W&B is ours, also where W&B has wrapped it."""
    while error is not None:
        if isinstance(error, Interrupted):
            raise error
        error = error.__cause__ or error.__context__
