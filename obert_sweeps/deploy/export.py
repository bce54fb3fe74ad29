"""A finished model as a folder: checkpoint, ONNX, sizes and card.

config.json, model.safetensors, tokenizer…   what from_pretrained loads, in float32
model.onnx                                   of a model in float32
model.qdq.onnx, model.integer.onnx           of a quantised one, for different engines
sizes.json, README.md
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..model.base import quiet
from ..model.quantize import is_quantized
from ..model.quantized_files import plain_weights
from ..schema import StageError
from .agreement import difference, tolerance
from .card import Facts, model_card
from .engines.base import INPUTS
from .engines.onnx_runtime import OnnxRuntime
from .onnx_export import export_onnx, output_names
from .onnx_layers import FORMS
from .sizes import Sizes, ratios, sizes_of


def export(
    folder: Path,
    model: Any,
    tokenizer: Any,
    example: dict[str, Tensor],
    facts: Callable[[dict[str, Any]], Facts],
    dense: Sizes | None = None,
) -> dict[str, Any]:
    """Write everything into an existing, empty `folder`; what was measured on the way.

    `example` is a batch of real model inputs, on which ONNX Runtime must agree with torch, of each
    file: StageError if not. `dense` are the sizes of the dense model's file, for the ratios.
    `facts` makes the card's facts of what is returned: `difference` (relative RMS, the largest of
    all files), `sizes` by file, and `ratios` where `dense` is given.
    """
    quantized = is_quantized(model)
    with quiet():
        model.save_pretrained(folder, state_dict=plain_weights(model))
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
    names = {f"model.{form}.onnx": form for form in FORMS} if quantized else {"model.onnx": None}
    for name, form in names.items():
        export_onnx(model, folder / name, form)
    sizes = {name: sizes_of(folder / name) for name in names}
    found: dict[str, Any] = {
        "difference": check_against_torch([folder / name for name in names], model, example),
        "sizes": {name: size.as_dict() for name, size in sizes.items()},
    }
    if dense is not None:
        found["ratios"] = ratios(dense, next(iter(sizes.values())))
    (folder / "sizes.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(model_card(facts(found)), encoding="utf-8")
    return found


@torch.no_grad()
def check_against_torch(files: Sequence[Path], model: Any, example: dict[str, Tensor]) -> float:
    """How far ONNX Runtime's logits are from torch's (relative RMS) at most, over ONNX files.

    StageError if those of a file are too far.
    """
    model.eval()
    batch = {name: example[name].to(model.device) for name in INPUTS}
    outputs = model(**batch)
    expected = {name: outputs[name].float().cpu().numpy() for name in output_names(model)}
    arrays = {name: np.asarray(tensor.cpu()) for name, tensor in batch.items()}
    allowed = tolerance(is_quantized(model), reduced=False)
    largest = 0.0
    for file in files:
        engine = OnnxRuntime()
        engine.load_file(file)
        apart = difference(engine.run(arrays).logits, expected, arrays["attention_mask"])
        engine.close()
        if apart > allowed:
            raise StageError(
                f"the exported {file} is not the model: its logits differ by {apart:.3g} (relative"
                f" RMS) from torch's, and {allowed:g} is allowed. An operator of this model is"
                " exported wrongly."
            )
        largest = max(largest, apart)
    return largest
