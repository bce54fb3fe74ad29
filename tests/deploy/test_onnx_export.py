"""The exported graph against torch, and what of it runs in integers after optimisation."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exported import arrays_of, batch_of, built, encoder, mobile, quantised
from onnx import numpy_helper

from obert_sweeps.deploy.agreement import difference
from obert_sweeps.deploy.onnx_export import export_onnx, output_names
from obert_sweeps.deploy.onnx_layers import FORMS
from obert_sweeps.model.quantize import QuantLinear, is_quantized, ranges
from obert_sweeps.schema import StageError


def run(file: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def torch_logits(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        outputs = model(**batch)
    return {name: outputs[name].numpy() for name in output_names(model)}


@pytest.mark.parametrize(
    "leaf, head", [(encoder, "span"), (encoder, "classification"), (mobile, "span")]
)
@pytest.mark.parametrize("form", [None, *FORMS])
def test_it_computes_what_torch_computes_at_any_batch_and_length(
    tmp_path: Path, leaf: Any, head: str, form: str | None
) -> None:
    model = built(head, leaf, sparse=0.5)
    if form:
        quantised(model, head)
    attention = model.config._attn_implementation
    export_onnx(model, tmp_path / "model.onnx", form)
    assert model.config._attn_implementation == attention
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    whole = batch_of(head)
    for rows, length in ((8, whole["input_ids"].shape[1]), (3, 7), (1, 2)):
        batch = {name: tensor[:rows, :length] for name, tensor in whole.items()}
        found = run(tmp_path / "model.onnx", arrays_of(batch))
        assert list(found) == list(output_names(model))
        expected = torch_logits(model, batch)
        # A value may fall on the other side of a rounding border; then more than a bit changes.
        allowed = 1e-5 if form is None else 0.05
        assert difference(found, expected, batch["attention_mask"].numpy()) < allowed


@pytest.mark.parametrize("form", FORMS)
def test_weights_lie_in_the_file_as_torchs_integers(tmp_path: Path, form: str) -> None:
    model = quantised(built(sparse=0.5))
    zeros = {n: p == 0 for n, p in model.named_parameters() if n.endswith("query.weight")}
    export_onnx(model, tmp_path / "model.onnx", form)
    graph = onnx.load(str(tmp_path / "model.onnx")).graph
    stored = [numpy_helper.to_array(i) for i in graph.initializer]
    matrices = [a for a in stored if a.dtype == np.int8 and a.ndim == 2]
    wanted = [m for m in model.modules() if isinstance(m, QuantLinear)]
    assert len(matrices) == len(wanted) + 3  # and three embedding tables
    assert not [a for a in stored if a.dtype == np.float32 and a.ndim > 1]
    by_shape = Counter(a.shape for a in matrices)
    for layer in wanted:  # [out, in]: not transposed
        by_shape[tuple(layer.weight.shape)] -= 1
    assert sum(by_shape.values()) == 3 and min(by_shape.values()) >= 0
    for name, pruned in zeros.items():
        layer = model.get_submodule(name.removesuffix(".weight"))
        scale = float(layer.weight.detach().abs().max()) / 127
        integers = np.rint(layer.weight.detach().double().numpy() / scale)
        match = [a for a in matrices if a.shape == integers.shape and (a == integers).all()]
        assert len(match) == 1
        assert not match[0][pruned.numpy()].any()


def test_all_products_run_in_integers_after_the_engines_own_optimisation(tmp_path: Path) -> None:
    model = quantised(built())
    linears = sum(isinstance(m, QuantLinear) for m in model.modules())
    for form in FORMS:
        export_onnx(model, tmp_path / "model.onnx", form)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), options)
        kinds = Counter(n.op_type for n in onnx.load(str(tmp_path / "optimised.onnx")).graph.node)
        integer = {k: n for k, n in kinds.items() if "MatMul" in k and k not in ("MatMul",)}
        assert not kinds["MatMul"] + kinds["Gemm"] + kinds["FusedMatMul"]
        assert sum(integer.values()) == linears + 2 * model.config.num_hidden_layers


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = quantised(built())
    batch = batch_of()
    before, names = torch_logits(model, batch), [name for name, _ in model.named_modules()]
    export_onnx(model, tmp_path / "model.onnx", "qdq")
    after = torch_logits(model, batch)
    assert all((before[name] == after[name]).all() for name in before)
    assert [name for name, _ in model.named_modules()] == names and is_quantized(model)


def test_a_form_that_does_not_fit_or_an_unknown_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="one in float32 has form None"):
        export_onnx(built(), tmp_path / "model.onnx", "qdq")
    model = quantised(built())
    with pytest.raises(StageError, match="is written as qdq or integer"):
        export_onnx(model, tmp_path / "model.onnx")
    next(ranges(model))[1].low.fill_(float("nan"))
    with pytest.raises(StageError, match="has seen no data"):
        export_onnx(model, tmp_path / "model.onnx", "qdq")
    assert is_quantized(model)
