"""Stages of the toy task, for tests that run them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tiny_bert import CONFIG

from obert_sweeps.schema import Runtime, Stage
from obert_sweeps.store import Store
from obert_sweeps.tracker.base import Tracker
from obert_sweeps.trial import run_stage

TRAINING = {
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": [{"until": 2, "initial": 0.01, "final": 0.0}],
}
ONE_SHOT = {"epochs": 0, "learning_rate": [], "pruning": {"start": 0, "end": 0}}
MAGNITUDE = {"_target_": "obert_sweeps.method.magnitude.Magnitude", "scope": "global"}


class Notes(Tracker):
    """Keeps what it is told."""

    told: list[tuple[str, Any]] = []

    def start(self, stage: Stage, store: str) -> None:
        Notes.told = [("start", stage.id)]

    def log(self, record: dict[str, Any]) -> None:
        Notes.told.append(("log", record))

    def finish(self, result: dict[str, Any]) -> None:
        Notes.told.append(("finish", result))


def stage(name: str, parents: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    recipe = {
        "kind": "train",
        "task": {"_target_": "tiny_bert.Toy", "rows": 24, **changes.pop("task", {})},
        "model": {
            "_target_": "obert_sweeps.model.bert.Bert",
            "name": "tiny",
            "from_config": True,
            "config": CONFIG,
        },
        "method": changes.pop("method", {"_target_": "obert_sweeps.method.dense.Dense"}),
        "sparsity": changes.pop("sparsity", {"pattern": "dense", "level": 0.0}),
        "training": {**TRAINING, **changes},
    }
    return Stage(id=name, name=name, recipe=recipe, seed=3, parents=parents or {}).as_dict()


def runtime(store: Path, **changes: Any) -> dict[str, Any]:
    return asdict(Runtime(**{"store": str(store), "allow_targets": ["tiny_bert"], **changes}))


def run(store: Path, spec: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Run a stage that must end well; its result."""
    outcome = run_stage(spec, runtime(store, **changes))
    assert outcome == {"id": spec["id"], "status": "done", "reason": None}
    return Store(str(store)).result(spec["id"])  # type: ignore[return-value]


def weights(store: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(store / f"stages/{name}/model/model.safetensors")


def masks(store: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(store / f"stages/{name}/model/masks.safetensors")


def one_shot(name: str = "pruned", level: float = 0.6, start: str = "dense") -> dict[str, Any]:
    sparsity = {"pattern": "unstructured", "level": level}
    return stage(name, {"start": start}, method=MAGNITUDE, sparsity=sparsity, **ONE_SHOT)
