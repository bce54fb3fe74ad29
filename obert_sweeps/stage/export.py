"""An export: a trained model as files that engines and `from_pretrained` load, with their sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..deploy.card import GENERATED, Facts
from ..deploy.engines.onnx_runtime import OnnxRuntime
from ..deploy.export import export
from ..deploy.sizes import Sizes, compressed_metrics, dense_metrics
from ..identity import hashed_part
from ..model.base import Encoder
from ..model.quantize import quantize
from ..model.quantized_files import has_ranges, load_ranges
from ..schema import Runtime, Stage, StageError
from ..store import Store
from ..task.base import Task
from ..train.cost import read_clocks, spent_since
from ..train.data import Data
from ..train.forward import inputs
from ..train.machine import prepare_torch
from ..worker_group import WorkerGroup
from .base import Result, StageWriter, finished
from .files import parent_models, parent_result
from .leaves import encoder_of, task_of

ROWS = 4  # of the first evaluation split, on which the files must agree with torch


def export_stage(
    spec: Stage, how: Runtime, group: WorkerGroup, writer: StageWriter | None
) -> Result | None:
    """Write model/; measured are the metrics of what is exported, `file_mb`, `compression`."""
    if writer is None:
        return None
    if (mend := OnnxRuntime.missing()) is not None:  # it writes and checks the files
        raise StageError(f"a model cannot be exported: {mend}")
    begun, how = read_clocks(), replace(how, device="cpu")
    device = prepare_torch(how)
    task, encoder = task_of(spec, how), encoder_of(spec, how)
    trained = parent_models(spec, how)["start"]
    tokenizer: Any = encoder.tokenizer(str(trained))
    model = _load(trained, encoder, task, len(tokenizer))
    made, dense = parent_result(spec, how, "start"), _dense(spec, how)

    def facts(found: dict[str, Any]) -> Facts:
        return Facts(
            name=" ".join(spec.tags[key] for key in ("model", "task", "method", "sparsity")),
            task=task.name,
            base_model=encoder.hub or Path(encoder.path or encoder.name).name,
            metrics=made["metrics"],
            sparsity=made["sparsity"]["layers"],
            quantized=has_ranges(trained),
            recipe=chain_of(spec, Store(how.store)),
            sizes=found["sizes"],
            ratios=found.get("ratios", {}),
            licence=GENERATED if spec.recipe["task"].get("source") == "generated" else None,
        )

    data = Data(task, tokenizer, max_eval_rows=ROWS)
    rows = list(data.evaluation[0].rows[:ROWS])
    generator = torch.Generator().manual_seed(spec.seed)
    example = inputs(task.collate(rows, data.pad_token_id, generator))
    with writer.folder.new_folder("model") as part:
        found = export(part, model, tokenizer, example, facts, dense)
    sizes = Sizes(**next(iter(found["sizes"].values())))
    plain = spec.recipe["sparsity"]["pattern"] == "dense" and not has_ranges(trained)
    sized = dense_metrics(sizes) if plain else compressed_metrics(sizes, dense)
    metrics = made["metrics"] | sized
    found = {"metrics": metrics, "sparsity": made["sparsity"], **found}
    return finished(spec, how, device, spent_since(begun), found)


def _load(folder: Path, encoder: Encoder, task: Task, tokens: int) -> Any:
    """A trained model, in INT8 if it was trained in that, in eval mode."""
    model = encoder.build(task.head.name, task.num_labels, tokens, str(folder), new_head=False)
    if has_ranges(folder):
        quantize(model)
        load_ranges(model, folder)
    return model.eval()


def _dense(spec: Stage, how: Runtime) -> Sizes | None:
    """The sizes of the dense model's file; None for a dense model."""
    if "against" not in spec.parents:
        return None
    return Sizes(**parent_result(spec, how, "against")["sizes"]["model.onnx"])


def chain_of(spec: Stage, store: Store) -> dict[str, Any]:
    """The recipes of the stages that made a stage's model, the last first, by name."""
    found: dict[str, Any] = {}
    parent = spec.parents.get("start")
    while parent is not None:
        stage = store.folder(parent).read_json("stage.json") or {}
        if "recipe" in stage:
            found[stage["name"]] = hashed_part(stage["recipe"])  # without paths
        parent = stage.get("parents", {}).get("start")
    return found
