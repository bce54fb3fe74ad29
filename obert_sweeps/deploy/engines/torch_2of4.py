"""PyTorch with 2:4 sparse weights on a GPU's sparse tensor cores (cuSPARSELt or CUTLASS)."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...schema import StageError, first_line
from .base import Engine
from .torch_dense import DTYPES, TorchDense

TOKENS = 8  # cuSPARSELt wants so many rows of 16 bits, or a multiple


class Torch2of4(TorchDense):
    """Linear layers whose weights are 2:4 become `to_sparse_semi_structured`; the rest is dense.

    Half precision and compiled by default: float32 has no sparse kernels worth timing, and eager
    mode is bound by launches at small batches.
    """

    name = "torch-2of4"

    def __init__(
        self,
        *,
        threads: int = 1,
        device: str = "cuda",
        precision: str = "fp16",
        compiled: bool = True,
    ) -> None:
        super().__init__(threads=threads, device=device, precision=precision, compiled=compiled)
        if precision == "fp32":
            raise StageError("2:4 kernels compute in 16 bits: choose precision fp16 or bf16")

    @classmethod
    def missing(cls) -> str | None:
        if torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0):
            return None
        found = (
            f"this one, {torch.cuda.get_device_name()}, has"
            f" {'.'.join(map(str, torch.cuda.get_device_capability()))}"
            if torch.cuda.is_available()
            else "torch sees none"
        )
        return (
            f"it needs a GPU with compute capability >= 8.0 (Ampere or later); {found}. Run it on"
            " such a machine with a CUDA build of torch."
        )

    def beside(self) -> Engine:
        return TorchDense(
            threads=self.threads,
            device=str(self.device),
            precision=self.precision,
            compiled=self.compiled,
        )

    def prepare(self, model: Any) -> Any:
        model = model.to(self.device, DTYPES[self.precision])
        self.sparse = sparsify(model)
        return model

    def describe(self) -> dict[str, Any]:
        facts = super().describe()
        facts["flags"]["backend"] = self.backend()
        return {**facts, "sparse_layers": len(self.sparse)}

    @staticmethod
    def backend() -> str:
        from torch.sparse import SparseSemiStructuredTensor

        cusparselt = torch.backends.cusparselt.is_available()
        forced = SparseSemiStructuredTensor._FORCE_CUTLASS
        return "cuSPARSELt" if cusparselt and not forced else "CUTLASS"


def two_of_four(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers with at most two non-zeros in every four of a row, and some in all.

    StageError if there is none: the model was not pruned 2:4.
    """
    found = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and layer.weight.shape[1] % 4 == 0:
            groups = layer.weight.detach().unflatten(1, (-1, 4)).count_nonzero(dim=2)
            if int(groups.max()) <= 2 and int(groups.sum()) > 0:
                found[name] = layer
    if not found:
        raise StageError(
            "no linear layer of the model has 2:4 sparse weights. Export one that was pruned with"
            " pattern 2of4."
        )
    return found


def sparsify(model: nn.Module) -> list[str]:
    """Store 2:4 weights compressed, on the GPU; the names of their layers."""
    from torch.sparse import SparseSemiStructuredTensorCUSPARSELT, to_sparse_semi_structured

    layers = two_of_four(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*prototype.*", category=UserWarning)
        for name, layer in layers.items():
            try:
                sparse = to_sparse_semi_structured(layer.weight.detach())
            except RuntimeError as error:  # a size that is no multiple of what kernels take
                raise StageError(
                    f"no 2:4 kernel takes the layer {name}: {first_line(error)}. Take the engine"
                    " torch for this model."
                ) from error
            if isinstance(sparse, SparseSemiStructuredTensorCUSPARSELT):
                model.set_submodule(name, CuSparseLtLinear(sparse.packed, layer.bias))
            else:
                layer.weight = nn.Parameter(sparse, requires_grad=False)
    return list(layers)


class CuSparseLtLinear(nn.Module):
    """x W^T + b of a packed 2:4 W, of any batch shape.

    The library is asked for W x^T, feature by feature, which is copied to rows. For rows at once,
    which torch >= 2.12 asks for, it took 1.5 times as long as a dense product, and a fifth of a
    second to plan each (H200, torch 2.11; docs/results/2026-11-26-gpu.md). Left as it comes it
    would keep attention from its fast kernels.
    """

    def __init__(self, packed: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("packed", packed)
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        missing = -len(rows) % TOKENS
        padded = functional.pad(rows, (0, 0, 0, missing)) if missing else rows  # or pad copies
        product = torch._cslt_sparse_mm(self.packed, padded.t(), bias=self.bias)
        return product.t()[: len(rows)].contiguous().view(*x.shape[:-1], -1)
