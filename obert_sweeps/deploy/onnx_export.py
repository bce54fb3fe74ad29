"""A model as an ONNX file: dynamic batch and length, logits, integers where it is quantised."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..model.quantize import is_quantized
from ..schema import StageError
from .engines.base import INPUTS
from .onnx_layers import FORMS, written_as

OPSET = 14  # MatMulInteger, per-tensor QuantizeLinear; all engines here read it


class _Logits(nn.Module):
    """The model as a function of three tensors (B, L), giving its logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, types: Tensor) -> Any:
        # Additive, (B, 1, 1, L), as attention adds it: the model then takes it as it is, and the
        # graph is spared transformers' general making of masks, which not every engine reads.
        closed = (1.0 - attention_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        outputs = self.model(input_ids, attention_mask=closed, token_type_ids=types)
        return tuple(outputs[name] for name in output_names(self.model))


def output_names(model: Any) -> tuple[str, ...]:
    """The names of its logits: start_logits and end_logits, (B, L), or logits, (B, labels)."""
    span = type(model).__name__.endswith("ForQuestionAnswering")
    return ("start_logits", "end_logits") if span else ("logits",)


def export_onnx(model: Any, file: Path, form: str | None = None) -> None:
    """Write `file`; inputs are int64 (batch, length). `form` is of a quantised model (FORMS).

    The model is left as it was, but in eval mode. Weights of pruned and quantised layers are int8
    in the file. StageError for a form that does not fit the model.
    """
    if is_quantized(model) != (form in FORMS):
        raise StageError(
            f"form {form!r} does not fit: a quantised model is written as {' or '.join(FORMS)},"
            " one in float32 has form None"
        )
    names = output_names(model)
    wrapped = _Logits(model).eval()
    ids = torch.tensor([[0, 1, 1, 0], [1, 0, 1, 0]], device=model.device)
    rows = {0: "batch", 1: "length"}
    attention = model.config._attn_implementation
    if form is None:
        model.set_attn_implementation("eager")
    try:
        with written_as(model, form) if form else nullcontext(), torch.no_grad(), _quiet():
            torch.onnx.export(
                wrapped,
                (ids, torch.ones_like(ids), torch.zeros_like(ids)),
                str(file),
                input_names=list(INPUTS),
                output_names=list(names),
                dynamic_axes={
                    **dict.fromkeys(INPUTS, rows),
                    **dict.fromkeys(names, rows if len(names) == 2 else {0: "batch"}),
                },
                opset_version=OPSET,
                do_constant_folding=False,  # it would transpose the weights in the file
                dynamo=False,  # the other exporter does not know these layers
            )
    finally:
        model.set_attn_implementation(attention)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns that it is the older of two, and of constants that it does not fold."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="Constant folding", category=UserWarning)
        yield
