"""A whole chain of table 3 with the toy task: dense, pruned, INT8, and both exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_bert import CONFIG
from tiny_stage import MAGNITUDE, ONE_SHOT, run, stage

BLOCK4 = {"pattern": "block4", "level": 0.5}
DENSE = {"pattern": "dense", "level": 0.0}
TASK = {"rows": 200}
RATE = [{"until": 4, "initial": 0.003, "final": 0.0}]
WIDE = {**CONFIG, "initializer_range": 0.2, "hidden_dropout_prob": 0.0}


def trained(name: str, parents: dict[str, str], path: Path | None = None, **changes: Any) -> Any:
    """A training stage on enough rows to be learnt; `path`: the checkpoint its model names."""
    spec = stage(name, parents, task=dict(TASK), **changes)
    _named(spec, path)
    return spec


def deployed(
    kind: str, name: str, parents: dict[str, str], path: Path | None = None, **more: Any
) -> dict[str, Any]:
    spec = stage(name, parents, task=dict(TASK))
    recipe = spec["recipe"]
    sparsity = BLOCK4 if "against" in parents else DENSE
    spec["recipe"] = {"kind": kind, "task": recipe["task"], "model": recipe["model"]}
    spec["recipe"] |= {"sparsity": sparsity, **more}
    spec["tags"] = {"model": "tiny", "task": "toy", "method": "magnitude", "sparsity": "block4 50"}
    _named(spec, path)
    return spec


def benchmark(name: str, parents: dict[str, str], engines: list[str], **more: Any) -> Any:
    plan = {"engines": [{"name": engine} for engine in engines], "warmup": 0, "repeats": 2}
    plan |= {"shapes": [[4, 12], [1, 12]], **more}
    return deployed("benchmark", name, parents, benchmark=plan)


def make_chain(store: Path) -> None:
    """Stages base, dense, pruned, qat, dense-export and export."""
    run(store, trained("base", {}, epochs=0, learning_rate=[]))
    path = store / "stages/base/model"
    more = {"epochs": 4, "learning_rate": RATE}
    run(store, trained("dense", {}, path, **more))
    run(
        store,
        trained("pruned", {"start": "dense"}, path, method=MAGNITUDE, sparsity=BLOCK4, **ONE_SHOT),
    )
    run(store, trained("qat", {"start": "pruned"}, path, quantize={"observe_until": 2}, **more))
    run(store, deployed("export", "dense-export", {"start": "dense"}, path))
    run(store, deployed("export", "export", {"start": "qat", "against": "dense-export"}, path))


def _named(spec: dict[str, Any], path: Path | None) -> None:
    model = spec["recipe"]["model"]
    model["config"] = WIDE
    if path is not None:
        model |= {"path": str(path), "from_config": False}
