"""The exported folder: a checkpoint that loads, a card that tells, an export that is checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from exported import SPAN, Exports, batch_of, built, encoder, facts, quantised
from torch import nn
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from obert_sweeps.deploy.card import DATA_LICENCES, model_card
from obert_sweeps.deploy.export import export
from obert_sweeps.deploy.onnx_export import export_onnx
from obert_sweeps.deploy.onnx_layers import FORMS
from obert_sweeps.schema import StageError


def test_the_folder_holds_what_its_model_is(exports: Exports) -> None:
    common = {"config.json", "model.safetensors", "README.md", "sizes.json"}
    tokenizer = {"tokenizer.json", "tokenizer_config.json"}
    dense, compressed = ({f.name for f in d.iterdir()} for d in (exports.dense, exports.compressed))
    assert dense == common | tokenizer | {"model.onnx"}
    assert compressed == common | tokenizer | {"model.qdq.onnx", "model.integer.onnx"}
    sizes = json.loads((exports.compressed / "sizes.json").read_text())
    raw = (exports.compressed / "model.qdq.onnx").stat().st_size
    assert sizes == exports.found["compressed"] and sizes["sizes"]["model.qdq.onnx"]["raw"] == raw
    whole = (exports.dense / "model.onnx").stat().st_size
    assert sizes["ratios"]["raw"] == pytest.approx(whole / raw)


@pytest.mark.parametrize("side", ["dense", "compressed"])
def test_transformers_loads_the_checkpoint(exports: Exports, side: str) -> None:
    folder = getattr(exports, side)
    model, info = AutoModelForQuestionAnswering.from_pretrained(folder, output_loading_info=True)
    assert not info["unexpected_keys"] and not info["missing_keys"]
    assert AutoTokenizer.from_pretrained(folder)("w7 w8")["input_ids"]
    with torch.no_grad():
        batch = {name: torch.from_numpy(a) for name, a in exports.batch.items()}
        found = model.eval()(**batch).start_logits.numpy()
    expected = exports.logits[side]["start_logits"]
    apart = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert apart < (1e-5 if side == "dense" else 0.2)  # activations are not rounded
    zeros = [float((m.weight == 0).float().mean()) for m in encoder().prunable(model).values()]
    assert min(zeros) > 0.4 if side == "compressed" else max(zeros) < 0.01


def test_a_wrong_export_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One operator that is traced as something else: the files do not leave unnoticed."""
    model = built()

    class Tanh(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(x) if torch.onnx.is_in_onnx_export() else torch.relu(x)

    model.bert.encoder.layer[0].intermediate.intermediate_act_fn = Tanh()
    with pytest.raises(StageError, match=r"is not the model: its logits differ by"):
        export(tmp_path, model, None, batch_of(), lambda f: facts(f, quantized=False))


@pytest.mark.parametrize("form", FORMS)
def test_a_wrong_file_is_refused_whichever_form_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Another model's weights in one of the two files."""
    model, other = quantised(built()), quantised(built(sparse=0.9))

    def mixed_up(model: Any, file: Path, its: str | None) -> None:
        export_onnx(other if its == form else model, file, its)

    monkeypatch.setattr("obert_sweeps.deploy.export.export_onnx", mixed_up)
    with pytest.raises(StageError, match=rf"model\.{form}\.onnx is not the model: its logits"):
        export(tmp_path, model, None, batch_of(), lambda f: facts(f, quantized=True))


@pytest.mark.parametrize("form", FORMS)
def test_the_difference_is_that_of_the_file_which_is_farther_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """One of the two adds a little to each logit: within what is allowed."""
    model, batch = quantised(built()), batch_of()
    with torch.no_grad():
        outputs = model(**batch)
        logits = torch.stack([outputs.start_logits, outputs.end_logits])
    real = logits[:, batch["attention_mask"].bool()]
    little = 0.1 * float(real.square().mean().sqrt())

    def shifted(model: Any, file: Path, its: str | None) -> None:
        added = little if its == form else 0.0
        model.qa_outputs.bias.data += added
        export_onnx(model, file, its)
        model.qa_outputs.bias.data -= added

    monkeypatch.setattr("obert_sweeps.deploy.export.export_onnx", shifted)
    found = export(tmp_path, model, None, batch, lambda f: facts(f, quantized=True))
    assert found["difference"] == pytest.approx(0.1, rel=1e-3)


def test_the_card_tells_all_of_it() -> None:
    found = {
        "sizes": {"model.qdq.onnx": {"raw": 111, "gzip": 22, "zstd": 21}},
        "ratios": {"document": 34.04, "gzip": 12.5, "raw": 3.9, "zstd": 12.0},
    }
    text = model_card(
        facts(
            found,
            quantized=True,
            sparsity={"encoder.layer.0.query": 0.95, "encoder.layer.0.key": 0.9},
            recipe={"method": "obert", "training": {"epochs": 30}},
        )
    )
    header = yaml.safe_load(text.split("---")[1])
    assert header["license"] == "cc-by-sa-4.0" and header["datasets"] == ["rajpurkar/squad"]
    assert {"pruned", "int8"} <= set(header["tags"])
    for part in (
        "| f1 | 88.12 |",
        "| em | undefined |",
        "| model.qdq.onnx | 111 | 22 | 21 |",
        "34.0x by the document's counting",
        "12.5x gzip by gzip",
        "| encoder.layer.0.query | 95.00 % |",
        "CC BY-SA 4.0",
        '"epochs": 30',
    ):
        assert part in text


def test_the_card_of_a_dense_model_and_of_data_not_known() -> None:
    made: Any = facts({"sizes": {}}, quantized=False)
    made.task = "letters"
    text = model_card(made)
    header = yaml.safe_load(text.split("---")[1])
    assert header["license"] == "other" and "datasets" not in header
    assert "Nothing was pruned" in text and "ask the data's owner" in text
    made.licence = "the library's own"
    assert "letters: the library's own." in model_card(made)
    made.task = "squad"  # the task's shape, other data
    text = model_card(made)
    header = yaml.safe_load(text.split("---")[1])
    assert header["license"] == "other" and "datasets" not in header and "CC BY-SA" not in text
    assert set(DATA_LICENCES) == set("squad mnli qqp qnli mrpc sst2 cola stsb".split())


def test_quantised_and_trained_further_it_still_exports(tmp_path: Path) -> None:
    """Ranges frozen while weights moved on: the file holds what torch computes."""
    model = quantised(built())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.3)
    tokenizer = SPAN.make_tokenizer()
    found = export(tmp_path, model, tokenizer, batch_of(), lambda f: facts(f, quantized=True))
    assert found["difference"] < 0.1
