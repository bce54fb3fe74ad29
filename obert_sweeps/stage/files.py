"""The files that a stage goes on from: models of its parents, the checkpoint of an earlier try."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from ..schema import Runtime, Stage, StageError
from ..store import Store
from ..store.place.base import fault
from ..worker_group import WorkerGroup

NO_MODEL = {"logits"}  # roles of parents that leave no model


def parent_models(spec: Stage, how: Runtime) -> dict[str, Path]:
    """The model folder of each parent that has one. StageError if it is not there or damaged."""
    store, found = Store(how.store), {}
    for role, parent in spec.parents.items():
        if role in NO_MODEL:
            continue
        folder, result = store.folder(parent), store.result(parent)
        if result is None:
            raise StageError(
                f"{role} stage {parent} has no result yet. Run the same command again."
            )
        model = folder.get_folder("model")
        if model is None:
            gone = "its model/ folder is gone. Run the same command again: it is made anew"
            reason = (result.get("evidence") or {}).get("reason", gone)
            raise StageError(f"there is no model of the {role} stage {parent}: {reason}")
        if (broken := fault(model)) is not None:
            raise StageError(
                f"the model of {role} stage {parent} is damaged: {broken}. Delete"
                f" {folder.where('')} and run the same command again."
            )
        found[role] = model
    return found


def parent_result(spec: Stage, how: Runtime, role: str) -> dict[str, Any]:
    """The result of a parent whose model `parent_models` has given: it is there."""
    result = Store(how.store).result(spec.parents[role])
    assert result is not None
    return result


def checkpoint(spec: Stage, how: Runtime, group: WorkerGroup) -> Path | None:
    """The newest whole checkpoint, as rank 0 finds it; all workers go on from that one."""
    folder = Store(how.output or how.store).folder(spec.id)
    found = folder.latest_checkpoint() if group.rank == 0 else None
    if group.size == 1:
        return found
    step = -1 if found is None else int(found.name.partition("-")[2])
    step = int(group.send_all(torch.tensor(step)))
    name = f"checkpoint-{step}"
    path = folder.get_folder(name) if step >= 0 else None
    if step >= 0 and path is None:
        raise StageError(
            f"{platform.node()} does not see {folder.where(name)}: the workers of a stage need a"
            " store that all hosts share. Use store=FOLDER"
        )
    return path
