"""Quantisation-aware training: INT8 arithmetic imitated in float32, gradients straight through.

The scheme is sparseml's, as the document's models were made: weights INT8 symmetric, activations
UINT8 asymmetric, embedding tables INT8 asymmetric, each with one scale a tensor; both products of
attention are quantised (left UINT8 asymmetric, right INT8 symmetric: QATMatMul); softmax,
normalisation and GELU stay float. Ranges lie in buffers, so that checkpoints hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..schema import StageError

AVERAGING = 0.01  # weight of the newest batch in an activation's range (torch's moving average)
ATTENTION = "obert_int8"  # transformers' name of the attention below


class FakeQuantize(nn.Module):
    """x -> scale * (clamp(round(x / scale) + zero_point, lowest, highest) - zero_point), any shape.

    The range [low, high] is observed in train mode while `observing`: the newest weighs
    `averaging`, 1 follows it. It always holds 0, which is represented exactly. The gradient is 1
    inside the range and 0 outside (straight through). Before anything was observed all is nan.

    What comes between two calls of `begin_batch` is one batch, however many parts it comes in: at
    its end the range is what the whole would have made it. Without those calls each x is a batch.
    """

    low: Tensor
    high: Tensor

    def __init__(self, *, signed: bool, symmetric: bool, averaging: float = AVERAGING) -> None:
        super().__init__()
        self.signed = signed
        self.symmetric = symmetric
        self.averaging = averaging
        self.lowest = (-127 if symmetric else -128) if signed else 0
        self.highest = 127 if signed else 255
        self.observing = True
        self._before: tuple[Tensor, Tensor] | None = None  # the range before the batch at hand
        self._parts: tuple[Tensor, Tensor] | None = None  # of the parts of it seen so far
        self.register_buffer("low", torch.tensor(float("nan")))
        self.register_buffer("high", torch.tensor(float("nan")))

    def forward(self, x: Tensor) -> Tensor:
        self.watch(x)
        return self.imitate(x)

    @torch.no_grad()
    def watch(self, x: Tensor) -> None:
        """Let the range follow x, in train mode and while observing."""
        if not (self.training and self.observing):
            return
        low, high = torch.aminmax(x.detach().float())
        low, high = low.clamp(max=0.0), high.clamp(min=0.0)
        if self._parts is not None:
            low, high = torch.minimum(self._parts[0], low), torch.maximum(self._parts[1], high)
        before = self.low, self.high
        if self._before is not None:
            before, self._parts = self._before, (low, high)
        for kept, old, new in zip((self.low, self.high), before, (low, high), strict=True):
            kept.copy_(torch.where(old.isnan(), new, torch.lerp(old, new, self.averaging)))

    @torch.no_grad()
    def begin_batch(self, again: bool) -> None:
        """The next x begins a batch; with `again` the same one, whose parts so far do not count."""
        if again and self._before is not None:
            self.low.copy_(self._before[0])
            self.high.copy_(self._before[1])
        self._before, self._parts = (self.low.clone(), self.high.clone()), None

    def imitate(self, x: Tensor) -> Tensor:
        """Quantised and back: float32, in x's shape."""
        scale, zero_point = self.scale_and_zero_point()
        return torch.fake_quantize_per_tensor_affine(
            x.float(), scale, zero_point, self.lowest, self.highest
        )

    def scale_and_zero_point(self) -> tuple[Tensor, Tensor]:
        """Scalars, float32 and int32."""
        smallest = torch.finfo(torch.float32).tiny * 2**10  # its inverse is finite
        if self.symmetric:
            reach = torch.maximum(-self.low, self.high)
            scale = (reach / self.highest).clamp(min=smallest)
            return scale, torch.zeros_like(scale, dtype=torch.int32)
        scale = ((self.high - self.low) / (self.highest - self.lowest)).clamp(min=smallest)
        zero_point = (self.lowest - torch.round(self.low / scale)).nan_to_num()
        return scale, zero_point.clamp(self.lowest, self.highest).int()

    @torch.no_grad()
    def integers(self, x: Tensor) -> Tensor:
        """x as int8 or uint8. StageError if no range was observed."""
        self.check()
        scale, zero_point = self.scale_and_zero_point()
        whole = torch.round(x.float() * (1 / scale) + zero_point).clamp(self.lowest, self.highest)
        return whole.to(torch.int8 if self.signed else torch.uint8)

    def check(self) -> None:
        """StageError unless a range was observed."""
        if bool(self.low.isnan()):
            raise StageError(
                "a quantised layer has seen no data, so its range is unknown. Train it with"
                " quantisation for at least one step, or calibrate it on some batches."
            )


class QuantLinear(nn.Linear):
    """A linear layer whose input and weight are quantised; its output and bias are not."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.input_range = FakeQuantize(signed=False, symmetric=False)
        self.weight_range = FakeQuantize(signed=True, symmetric=True, averaging=1.0)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.input_range(x), self.weight_range(self.weight), self.bias)


class QuantEmbedding(nn.Embedding):
    """An embedding whose table is quantised; only the rows looked up are."""

    def __init__(self, layer: nn.Embedding) -> None:
        size = layer.num_embeddings, layer.embedding_dim
        super().__init__(*size, padding_idx=layer.padding_idx, device="meta")
        self.weight = layer.weight
        self.weight_range = FakeQuantize(signed=True, symmetric=False, averaging=1.0)

    def forward(self, ids: Tensor) -> Tensor:
        self.weight_range.watch(self.weight)
        return self.weight_range.imitate(super().forward(ids))


class QuantMatMul(nn.Module):
    """A product of two activations, (…, n, k) by (…, k, m), both quantised."""

    def __init__(self) -> None:
        super().__init__()
        self.left_range = FakeQuantize(signed=False, symmetric=False)
        self.right_range = FakeQuantize(signed=True, symmetric=True)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.matmul(self.left_range(left), self.right_range(right))


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Eager attention by the module's own products; query, key, value (B, heads, L, d)."""
    scores = module.scores_product(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = F.dropout(scores.softmax(dim=-1), p=dropout, training=module.training)
    return module.context_product(weights, value).transpose(1, 2).contiguous(), weights


def quantize(model: Any) -> None:
    """Quantise a BERT or MobileBERT in place; its parameters stay the same objects.

    Every linear layer, every embedding and both products of each attention, the task head's layer
    included. StageError for a model that is quantised already or has a language-modelling head.
    """
    if is_quantized(model):
        raise StageError("the model is quantised already: quantise a model in float32")
    if model.get_output_embeddings() is not None:
        raise StageError(
            "a model with a language-modelling head is not quantised: its output layer is the"
            " embedding table. Quantise after fine-tuning on a task."
        )
    _register_attention()
    replace_layers(model, nn.Linear, QuantLinear)
    replace_layers(model, nn.Embedding, QuantEmbedding)
    for layer in model.base_model.encoder.layer:
        module = layer.attention.self
        module.scores_product, module.context_product = QuantMatMul(), QuantMatMul()
        module.to(module.query.weight.device).train(module.training)
    model.set_attn_implementation(ATTENTION)


def replace_layers(
    model: nn.Module, kind: type[nn.Module], make: Callable[[Any], nn.Module]
) -> dict[str, nn.Module]:
    """Put `make(layer)` in the place of each layer of that kind; the replaced layers by name."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, kind)}
    for name, module in found.items():
        device = next((t.device for t in module.state_dict().values()), None)
        model.set_submodule(name, make(module).to(device).train(module.training))
    return found


def ranges(model: nn.Module) -> Iterator[tuple[str, FakeQuantize]]:
    """The places where a model is quantised, by name."""
    for name, module in model.named_modules():
        if isinstance(module, FakeQuantize):
            yield name, module


def is_quantized(model: nn.Module) -> bool:
    """Whether the model's layers are quantised ones."""
    return next(ranges(model), None) is not None


def observe(model: nn.Module, on: bool) -> None:
    """Let ranges follow the data of training, or freeze them."""
    for _, place in ranges(model):
        place.observing = on


def begin_batch(places: Iterable[FakeQuantize], again: bool = False) -> None:
    """The next pass is the first over a batch (`again`: over the same one, from its beginning)."""
    for place in places:
        place.begin_batch(again)


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> None:
    """Observe ranges on batches of model inputs without training; leaves the model in eval mode."""
    model.eval()
    observe(model, True)
    for _, place in ranges(model):
        place.train()
    for batch in batches:
        model(**batch)
    model.eval()


def _register_attention() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, eager_mask)
