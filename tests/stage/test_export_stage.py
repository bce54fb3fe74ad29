"""The export stage: its files, what its result says, and when there is none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from deploy_chain import deployed
from safetensors.torch import load_file
from tiny_bert import Toy
from tiny_stage import masks, run, runtime, stage
from transformers import AutoModelForSequenceClassification

from obert_sweeps.deploy.engines.onnx_runtime import OnnxRuntime
from obert_sweeps.store import Store
from obert_sweeps.trial import run_stage


def test_the_result_has_the_sizes_of_the_files_as_the_document_counts(chain: Path) -> None:
    folder, dense = (chain / f"stages/{name}/model" for name in ("export", "dense-export"))
    names = {f.name for f in folder.iterdir()}
    assert {"model.qdq.onnx", "model.integer.onnx", "model.safetensors", "README.md"} <= names
    assert "model.onnx" not in names and "masks.safetensors" not in names
    result, of_dense = (Store(str(chain)).result(n) for n in ("export", "dense-export"))
    assert result is not None and of_dense is not None
    content = (folder / "model.qdq.onnx").read_bytes()
    packed = len(gzip.compress(content, 6))
    whole = (dense / "model.onnx").stat().st_size
    assert result["sizes"]["model.qdq.onnx"]["raw"] == len(content)
    assert result["metrics"]["file_mb"] == pytest.approx(packed / 1e6, rel=1e-3)
    assert result["metrics"]["compression"] == pytest.approx(whole / packed, rel=1e-3)
    assert of_dense["metrics"]["file_mb"] == whole / 1e6
    assert of_dense["metrics"]["compression"] == 1.0 and "ratios" not in of_dense
    trained = Store(str(chain)).result("qat")
    assert trained is not None and result["sparsity"] == trained["sparsity"]
    assert result["metrics"]["accuracy"] == trained["metrics"]["accuracy"] > 80
    assert set(result["cost"]) == {"seconds", "cpu_seconds", "gpu_seconds"}


def test_from_pretrained_gives_the_model_with_its_zeros(chain: Path) -> None:
    folder = chain / "stages/export/model"
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    keep = masks(chain, "qat")
    assert len(keep) == 12
    for name, mask in keep.items():
        weight = model.get_submodule(name).weight
        assert bool((weight[~mask] == 0).all())
        assert float((~mask).float().mean()) > 0.4 or "query" in name or "key" in name
    total = sum(int((~mask).sum()) for mask in keep.values())
    assert total / sum(mask.numel() for mask in keep.values()) == pytest.approx(0.5, abs=1e-3)
    # Its weights are on INT8's grid: at most 255 values a tensor.
    found = load_file(folder / "model.safetensors")
    first = "bert.encoder.layer.0.output.dense.weight"
    assert len(torch.unique(found[first])) <= 255 and found[first].dtype == torch.float32


def test_the_card_tells_the_chain_without_paths(chain: Path) -> None:
    card = (chain / "stages/export/model/README.md").read_text()
    recipe = json.loads(card.split("```json\n")[1].split("```")[0])
    assert list(recipe) == sorted(["dense", "pruned", "qat"])
    assert recipe["qat"]["training"]["quantize"] == {"observe_until": 2}
    assert recipe["pruned"]["sparsity"] == {"pattern": "block4", "level": 0.5}
    assert str(chain) not in card and "/model" not in json.dumps(recipe)
    assert "gzip by gzip" in card and "| accuracy |" in card and "int8" in card


def test_a_task_that_draws_its_batches_gets_a_generator(
    chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, collate = [], Toy.collate

    def drawing(self: Toy, rows: Any, pad: int, generator: torch.Generator) -> Any:
        drawn.append((pad, float(torch.rand((), generator=generator))))
        return collate(self, rows, pad, generator)

    monkeypatch.setattr(Toy, "collate", drawing)
    path = chain / "stages/base/model"
    for name in ("once", "again"):
        run(chain, deployed("export", name, {"start": "dense"}, path))
    assert len(drawn) == 2 and drawn[0] == drawn[1] and drawn[0][0] == 0


def test_a_parent_that_did_not_converge_gives_no_export(tmp_path: Path) -> None:
    wild = [{"until": 2, "initial": 1e30, "final": 1e30}]
    assert run_stage(stage("wild", learning_rate=wild), runtime(tmp_path))["status"] == (
        "not_converged"
    )
    for kind, start in (("export", "wild"), ("benchmark", "export")):
        plan = {"benchmark": {}} if kind == "benchmark" else {}
        outcome = run_stage(deployed(kind, kind, {"start": start}, **plan), runtime(tmp_path))
        assert outcome["status"] == "not_converged" and "not finite" in outcome["reason"]
        assert not (tmp_path / f"stages/{kind}/model").exists()


def test_without_onnx_runtime_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, stage("dense"))
    monkeypatch.setattr(OnnxRuntime, "missing", classmethod(lambda cls: "pip install it"))
    outcome = run_stage(deployed("export", "export", {"start": "dense"}), runtime(tmp_path))
    assert outcome["status"] == "failed"
    assert outcome["reason"] == "a model cannot be exported: pip install it"
    assert not list((tmp_path / "stages/export").glob("*model*"))
