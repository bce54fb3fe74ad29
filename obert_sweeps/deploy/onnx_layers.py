"""Quantised layers as they are written into an ONNX graph, in the form an engine accelerates.

`qdq`: float products between DequantizeLinear and QuantizeLinear, which ONNX Runtime and OpenVINO
fuse into integer kernels. `integer`: MatMulInteger and a scale, DeepSparse's form. Weights are
int8 in the file, [out, in] as torch holds them: a block of zeros is then a run of zero bytes, and
the file compresses better than transposed (engines transpose once, when they load it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from ..model.quantize import (
    FakeQuantize,
    QuantEmbedding,
    QuantLinear,
    QuantMatMul,
    replace_layers,
)

FORMS = ("qdq", "integer")

_FLOAT = 1  # onnx.TensorProto.FLOAT


class _Product(Function):
    """left @ right of quantised operands; in the graph `right` is int8 or still to be quantised."""

    @staticmethod
    def forward(
        ctx: Any,
        form: str,
        left: Tensor,
        left_scale: Tensor,
        left_zero: Tensor,
        right: Tensor,
        right_scale: Tensor,
        right_zero: Tensor,
    ) -> Tensor:
        """Only the shape counts: values come from the graph that `symbolic` writes."""
        if right.dtype == torch.int8:
            right = right.float().T
        return torch.matmul(left, right)

    @staticmethod
    def symbolic(
        g: Any,
        form: str,
        left: Any,
        left_scale: Any,
        left_zero: Any,
        right: Any,
        right_scale: Any,
        right_zero: Any,
    ) -> Any:
        stored = right.type().scalarType() == "Char"  # a weight, int8 already, [out, in]
        left = g.op("QuantizeLinear", left, left_scale, left_zero)
        if not stored:
            right = g.op("QuantizeLinear", right, right_scale, right_zero)
        if form == "qdq":
            left = g.op("DequantizeLinear", left, left_scale, left_zero)
            right = g.op("DequantizeLinear", right, right_scale, right_zero)
        if stored:
            right = g.op("Transpose", right, perm_i=[1, 0])
        if form == "qdq":
            return g.op("MatMul", left, right)
        total = g.op("MatMulInteger", left, right, left_zero, right_zero)
        return g.op("Mul", g.op("Cast", total, to_i=_FLOAT), g.op("Mul", left_scale, right_scale))


class _LookUp(Function):
    """Rows of an int8 table, made float after they were looked up."""

    @staticmethod
    def forward(ctx: Any, ids: Tensor, table: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        return (table[ids].float() - zero.float()) * scale

    @staticmethod
    def symbolic(g: Any, ids: Any, table: Any, scale: Any, zero: Any) -> Any:
        return g.op("DequantizeLinear", g.op("Gather", table, ids, axis_i=0), scale, zero)


class _Operand(nn.Module):
    """An operand's constants: scale (float32) and zero point (int8 or uint8), scalars."""

    scale: Tensor
    zero: Tensor

    def __init__(self, place: FakeQuantize) -> None:
        super().__init__()
        place.check()
        scale, zero = place.scale_and_zero_point()
        self.register_buffer("scale", scale)
        self.register_buffer("zero", zero.to(torch.int8 if place.signed else torch.uint8))

    def constants(self) -> tuple[Tensor, Tensor]:
        return self.scale, self.zero


class _OnnxLinear(nn.Module):
    weight: Tensor

    def __init__(self, layer: QuantLinear, form: str) -> None:
        super().__init__()
        self.form = form
        self.left, self.right = _Operand(layer.input_range), _Operand(layer.weight_range)
        self.register_buffer("weight", layer.weight_range.integers(layer.weight))
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        product = _Product.apply(
            self.form, x, *self.left.constants(), self.weight, *self.right.constants()
        )
        return product if self.bias is None else product + self.bias


class _OnnxMatMul(nn.Module):
    def __init__(self, layer: QuantMatMul, form: str) -> None:
        super().__init__()
        self.form = form
        self.left, self.right = _Operand(layer.left_range), _Operand(layer.right_range)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return _Product.apply(
            self.form, left, *self.left.constants(), right, *self.right.constants()
        )


class _OnnxEmbedding(nn.Module):
    table: Tensor

    def __init__(self, layer: QuantEmbedding) -> None:
        super().__init__()
        self.right = _Operand(layer.weight_range)
        self.register_buffer("table", layer.weight_range.integers(layer.weight))

    def forward(self, ids: Tensor) -> Tensor:
        return _LookUp.apply(ids, self.table, *self.right.constants())


@contextmanager
def written_as(model: nn.Module, form: str) -> Iterator[None]:
    """Within it the model's quantised layers are those that write `form`; it computes no values."""
    kinds: list[tuple[type[nn.Module], Callable[[Any], nn.Module]]] = [
        (QuantLinear, lambda layer: _OnnxLinear(layer, form)),
        (QuantMatMul, lambda layer: _OnnxMatMul(layer, form)),
        (QuantEmbedding, _OnnxEmbedding),
    ]
    replaced: dict[str, nn.Module] = {}
    try:
        for kind, make in kinds:
            replaced |= replace_layers(model, kind, make)
        yield
    finally:
        for name, layer in replaced.items():
            model.set_submodule(name, layer)
