"""The inverse of the damped empirical Fisher.

F = lambda I + (1/m) sum_i g_i g_i^T, block-diagonal with blocks of B consecutive weights of the
row-major (out, in) weight (oBERT paper, section 3; sparseml modifier_pruning_obs.py).

The published way is a rank-1 (Sherman-Morrison) recursion on the inverse in float32. It reads and
writes all d * B numbers for each gradient, and it loses digits with the condition number of F:
with lambda = 1e-7 and gradients of unit scale, nearly half of them. Here the products g g^T are
summed first, k gradients at a time, and each block is factorised once:

* sums and inverse are float64, and symmetric, so only half is held: 4 (B + 1) bytes a weight, what
  full float32 blocks take. The inverse replaces the sums in place.
* the products of k gradients are float32 where that is known to be safe, and float64 elsewhere.
  Each block decides by what has been measured of it (`rounding`), so a block comes out the same
  however its layer is cut into tiles or shards.
* a GPU that multiplies in float64 as fast has no use for float32: there all is float64, and kernels
  of its own (`fused`) keep a block in registers.
* operations: 1.5 d B m for the sums, which are formed by halves, and about d B^2 for the inversion.
* memory traffic: 8 d (B + 1) bytes for each k gradients, where the recursion has 12 d B for each
  one; all between gradients and sums stays in cache. That is 3 k / 16 operations a byte: a CPU's
  float32 sums are bound by memory to about k = 16, and beyond by arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional

from ...schema import StageError
from .rounding import Rounding
from .symmetric import Products, SymmetricBlocks

_WORKSPACE = {"cpu": 2 << 20, "cuda": 256 << 20}  # bytes of numbers worked on at a time
# Compute capability -> the largest B of the kernels: a matrix's half must fit in registers, and
# Triton (3.7) cannot compile products of wider float64 tiles for Blackwell.
_FUSED = {(8, 0): 128, (9, 0): 128, (10, 0): 64}  # A100; H100 and H200; B200


class FisherInverse:
    """Block-diagonal (lambda I + 1/m sum g g^T)^-1 of `num_weights` weights.

    num_weights: d. block_size: B; if it does not divide d the last block is padded with zero
    gradients. damp: lambda > 0. num_grads: m, what the sum is divided by, whatever number comes.
    tolerance: the relative error of a block that float32 products may cause; 0 for float64
    throughout. First `add`, then read: the first reading inverts; after it nothing can be added.
    """

    def __init__(
        self,
        num_weights: int,
        block_size: int,
        damp: float,
        num_grads: int,
        device: torch.device | str = "cpu",
        tolerance: float = 5e-5,
    ) -> None:
        if min(num_weights, block_size, num_grads) < 1 or damp <= 0:
            raise ValueError("num_weights, block_size, num_grads and damp must be positive")
        self.num_weights = num_weights
        self.block_size = block_size
        self.num_blocks = -(-num_weights // block_size)
        self.damp = damp
        self.num_grads = num_grads
        self.added = 0
        self._inverted = False
        self._blocks = SymmetricBlocks(self.num_blocks, block_size, device)
        self._kernels = _kernels(self.device, block_size)
        if self._kernels is not None:
            tolerance = 0.0
        self.rounding = Rounding(
            self.num_blocks, block_size, num_grads * damp, num_grads, tolerance, device
        )
        self._measure_at = 3 * block_size

    @property
    def device(self) -> torch.device:
        return self._blocks.device

    def chunks(self, numbers: int | None = None) -> Iterator[tuple[int, int]]:
        """Ranges (first, last) of blocks that fit the work space, at `numbers` (B^2) a block."""
        step = self._fitting(numbers)
        for first in range(0, self.num_blocks, step):
            yield first, min(first + step, self.num_blocks)

    def _fitting(self, numbers: int | None = None) -> int:
        workspace = _WORKSPACE.get(self.device.type, _WORKSPACE["cpu"])
        return max(1, workspace // (8 * (numbers or self.block_size**2)))

    @torch.no_grad()
    def add(self, grads: Tensor) -> None:
        """Add one gradient (d,) or several (k, d). Several at once are cheaper.

        There may be more than `num_grads`: gradients of zero, with which workers fill up their
        shares, change nothing, and whoever calls counts the others.
        """
        if grads.shape[-1] != self.num_weights or grads.dim() > 2:
            raise ValueError(f"gradients {tuple(grads.shape)} for {self.num_weights} weights")
        if self._inverted:
            raise ValueError("the inverse has been read; no gradient can be added to it")
        grads = grads.reshape(-1, self.num_weights)
        self.added += len(grads)
        if self._kernels is not None:
            self._kernels.add_products(self._blocks.values, grads, self.block_size)
            return
        narrow = (
            self.rounding.tolerance > 0
            and grads.dtype != torch.float64
            and _multiplies_in_float32(self.device)
        )
        products = Products(self._fitting(), len(grads), self.block_size, self.device)
        for first, last in self.chunks():
            self._add(products, grads, first, last, narrow)
        if narrow and self._measure_at <= self.added <= self.num_grads - 3 * self.block_size:
            self._measure_at = 3 * self.added
            self._measure(len(grads))

    def _add(self, products: Products, grads: Tensor, first: int, last: int, narrow: bool) -> None:
        """Add the products of (k, d) to blocks `first` to `last`, in float32 where admitted."""
        part = in_blocks(grads, self.block_size, first, last).transpose(0, 1)  # (blocks, k, B)
        scale = self.rounding.scale[first:last].unsqueeze(1)
        exact = self.rounding.exact[first:last]  # a view: `admit` changes it
        if narrow and not bool(exact.all()):
            own, blocks = _mostly(~exact, first)
            halves = products(part[own], scale[own], torch.float32)
            self.rounding.admit(blocks, *halves, len(grads), self.added)
            self._blocks.add(blocks, *_without(exact[own], *halves))
        if not narrow or bool(exact.any()):
            wide = exact | (not narrow)
            own, blocks = _mostly(wide, first)
            halves = products(part[own], scale[own], torch.float64)
            self._blocks.add(blocks, *_without(~wide[own], *halves))

    def _measure(self, k: int) -> None:
        """Let blocks return to float32 that the gradients so far are found to span well enough.

        What comes later only adds to m F, so it stays above a floor f D^-2 that it is above now,
        which a Cholesky factor of the difference proves; f is what float32 needs, in sums of k, for
        the gradients that remain. Costs about what float32 saves on 2 B gradients.
        """
        step = self._fitting(3 * self.block_size**2)
        for some in self.rounding.exact.nonzero().flatten().split(step):
            sums = self._blocks.lower(some).tril_()
            diagonal = sums.diagonal(dim1=-2, dim2=-1)
            damp = self.num_grads * self.damp * self.rounding.scale[some].to(torch.float64).square()
            size = torch.log2(diagonal + damp)
            change = torch.exp2(torch.round((size.amax(dim=-1, keepdim=True) - size) / 2))
            sums.mul_(change.unsqueeze(-1)).mul_(change.unsqueeze(-2))
            damp *= change.square()
            before = diagonal.clone()
            norm = 2 * sums.square().sum(dim=(-2, -1)) - before.square().sum(dim=-1)
            floor = self.rounding.needed(norm, before.sum(dim=-1), k, self.added)
            diagonal += damp - floor.unsqueeze(-1)
            known = torch.linalg.cholesky_ex(sums).info == 0
            diagonal.copy_(before)
            self.rounding.raise_floor(some[known], change[known], floor[known])
            self._blocks.replace(some[known], sums[known])

    def _invert(self) -> None:
        if self._inverted:
            return
        if self._kernels is not None:
            sound = self._kernels.invert(
                self._blocks.values, self.block_size, self.num_grads, self.damp
            )
        else:
            sound = all(self._invert_some(*some) for some in self.chunks(3 * self.block_size**2))
        if not sound:
            raise StageError(
                f"a Fisher block is not positive definite: its gradients are not finite, or"
                f" too large for a damping of {self.damp:g}. Raise method.damp, or lower the"
                " learning rate if training has diverged."
            )
        self._inverted = True

    def _invert_some(self, first: int, last: int) -> bool:
        """Invert blocks `first` to `last` in place; False if one is not positive definite."""
        scale = self.rounding.scale[first:last].to(torch.float64)
        fisher = self._blocks.lower(slice(first, last)).div_(self.num_grads)
        fisher.diagonal(dim1=-2, dim2=-1).add_(self.damp * scale.square())
        factor, info = torch.linalg.cholesky_ex(fisher)  # reads the lower triangle
        if bool(info.any()):
            return False
        inverse = torch.cholesky_inverse(factor)
        inverse.mul_(scale.unsqueeze(-1)).mul_(scale.unsqueeze(-2))
        self._blocks.replace(slice(first, last), inverse)
        return True

    @torch.no_grad()
    def diag(self) -> Tensor:
        """The diagonal, float64 (d,)."""
        self._invert()
        place = torch.arange(self.block_size, device=self.device)
        return self._blocks.at(place, place).flatten()[: self.num_weights]

    @torch.no_grad()
    def blocks(self, first: int = 0, last: int | None = None) -> Tensor:
        """Blocks `first` to `last` in full, float64 (blocks, B, B), padding included.

        All blocks together take twice the memory of the inverse as it is held.
        """
        self._invert()
        place = torch.arange(self.block_size, device=self.device)
        return self._blocks.at(place[:, None], place, first, last)

    @torch.no_grad()
    def sub_blocks(self, size: int, first: int, last: int) -> Tensor:
        """The size x size blocks on the diagonal of blocks `first` to `last`.

        float64 (size, size, blocks, B / size): entries of one place lie together, which is what
        arithmetic on many small matrices wants. `size` must divide B.
        """
        self._invert()
        members = torch.arange(self.block_size, device=self.device).view(-1, size).T
        return self._blocks.at(members[:, None], members[None, :], first, last).movedim(0, 2)

    @torch.no_grad()
    def mul(self, vector: Tensor) -> Tensor:
        """The product with a vector (d,), as float64 (d,)."""
        if vector.shape != (self.num_weights,):
            raise ValueError(f"vector {tuple(vector.shape)} for {self.num_weights} weights")
        self._invert()
        result = torch.empty(
            self.num_blocks, self.block_size, dtype=torch.float64, device=self.device
        )
        for first, last in self.chunks():
            part = in_blocks(vector, self.block_size, first, last).to(torch.float64).unsqueeze(-1)
            torch.bmm(self.blocks(first, last), part, out=result[first:last].unsqueeze(-1))
        return result.flatten()[: self.num_weights]


def _kernels(device: torch.device, block_size: int) -> ModuleType | None:
    """The kernels, for GPUs with full float64 arithmetic."""
    if device.type != "cuda":
        return None
    if block_size > _FUSED.get(torch.cuda.get_device_capability(device), 0):
        return None
    try:
        from . import fused
    except ModuleNotFoundError:  # torch comes without Triton on some systems
        return None
    return fused


def _mostly(mask: Tensor, first: int) -> tuple[slice | Tensor, slice | Tensor]:
    """Where a tile's mask is set, in the tile and among all blocks; all of it if half of it is.

    Forming products that are not wanted costs less than taking the wanted ones apart.
    """
    own = mask.nonzero().flatten()
    if 2 * len(own) >= len(mask):
        return slice(None), slice(first, first + len(mask))
    return own, first + own


def _without(dropped: Tensor, below: Tensor, corner: Tensor) -> tuple[Tensor, Tensor]:
    if bool(dropped.any()):
        below[dropped], corner[dropped] = 0.0, 0.0
    return below, corner


def _multiplies_in_float32(device: torch.device) -> bool:
    """Not where the process allows TF32 or bfloat16 inside float32 products."""
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    return backend.matmul.fp32_precision in ("none", "ieee")


def in_blocks(values: Tensor, block_size: int, first: int, last: int) -> Tensor:
    """Cut (..., d) to blocks `first` to `last`: (..., last - first, B), zero-padded."""
    part = values[..., first * block_size : last * block_size]
    missing = (last - first) * block_size - part.shape[-1]
    if missing:
        part = functional.pad(part, (0, missing))
    return part.unflatten(-1, (last - first, block_size))
