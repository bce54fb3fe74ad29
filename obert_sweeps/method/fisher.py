"""The inverse of the damped empirical Fisher.

F = lambda I + (1/m) sum_i g_i g_i^T, block-diagonal with blocks of B consecutive weights of the
row-major (out, in) weight (oBERT paper, section 3; sparseml modifier_pruning_obs.py).

The published way is a rank-1 (Sherman-Morrison) recursion on the inverse in float32. It reads and
writes all d * B numbers for each gradient, and it loses digits with the condition number of F:
with lambda = 1e-7 and gradients of unit scale, nearly half of them. Here the products g g^T are
summed first, k gradients at a time, and each block is factorised once:

* sums and inverse are float64, and symmetric, so only the lower triangle is held: 8 bytes *
  B (B + 1) / 2 a block, what a full float32 block takes. The inverse replaces the sums in place.
* the products of k gradients are float32 where that is safe, which is twice as fast, and float64
  elsewhere. Each block decides by what it has seen: the rounding of its float32 products so far
  against the smallest eigenvalue that F is known to have (see `_Rounding`).
* operations: 2 d B m for the sums, about 2 d B^2 for the inversion. The memory is passed m / k
  times instead of m times.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from ..schema import StageError

_WORKSPACE = {"cpu": 2 << 20, "cuda": 256 << 20}  # bytes of numbers worked on at a time
_UNIT = 2.0**-24  # half the distance of float32 numbers around 1


class FisherInverse:
    """Block-diagonal (lambda I + 1/m sum g g^T)^-1 of `num_weights` weights.

    num_weights: d. block_size: B; if it does not divide d the last block is padded with zero
    gradients. damp: lambda > 0. num_grads: m, what the sum is divided by, even if fewer gradients
    come. tolerance: the relative error of a block that float32 products may cause; 0 for float64
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
        size = block_size * (block_size + 1) // 2
        # lower triangles, row by row: entry (i, j), j <= i, stands at i (i + 1) / 2 + j
        self._packed = torch.zeros(self.num_blocks, size, dtype=torch.float64, device=device)
        position = torch.arange(block_size, device=device)
        high = torch.maximum(position[:, None], position)
        low = torch.minimum(position[:, None], position)
        self._index = high * (high + 1) // 2 + low
        rows, columns = torch.tril_indices(block_size, block_size, device=device)
        self._lower = rows * block_size + columns
        self._rounding = _Rounding(self.num_blocks, num_grads, damp, tolerance, device)
        self._measure_at = [num_grads // 4, num_grads // 2]

    @property
    def device(self) -> torch.device:
        return self._packed.device

    def chunks(self, numbers: int | None = None) -> Iterator[tuple[int, int]]:
        """Ranges (first, last) of blocks that fit the work space, at `numbers` (B^2) a block."""
        step = max(1, self._workspace() // (8 * (numbers or self.block_size**2)))
        for first in range(0, self.num_blocks, step):
            yield first, min(first + step, self.num_blocks)

    def _workspace(self) -> int:
        return _WORKSPACE.get(self.device.type, _WORKSPACE["cpu"])

    def split(self, values: Tensor, first: int, last: int) -> Tensor:
        """Cut (..., d) to blocks `first` to `last`: (..., last - first, B), zero-padded."""
        part = values[..., first * self.block_size : last * self.block_size]
        missing = (last - first) * self.block_size - part.shape[-1]
        if missing:
            part = functional.pad(part, (0, missing))
        return part.unflatten(-1, (last - first, self.block_size))

    @torch.no_grad()
    def add(self, grads: Tensor) -> None:
        """Add one gradient (d,) or several (k, d). Several at once are cheaper."""
        if grads.shape[-1] != self.num_weights or grads.dim() > 2:
            raise ValueError(f"gradients {tuple(grads.shape)} for {self.num_weights} weights")
        if self._inverted:
            raise ValueError("the inverse has been read; no gradient can be added to it")
        grads = grads.reshape(-1, self.num_weights)
        if self.added + len(grads) > self.num_grads:
            raise ValueError(f"more than the {self.num_grads} gradients it was made for")
        for first, last in self.chunks():
            self._add_products(grads, first, last)
        self.added += len(grads)
        while self._measure_at and self.added >= self._measure_at[0]:
            self._measure_at.pop(0)
            self._measure()

    def _add_products(self, grads: Tensor, first: int, last: int) -> None:
        part = self.split(grads, first, last).transpose(0, 1)  # (blocks, k, B)
        rounding, sums = self._rounding, self._packed[first:last]
        exact = rounding.exact[first:last]
        if not bool(exact.all()):
            narrow = part.to(torch.float32)
            products = torch.bmm(narrow.mT, narrow)
            traces = products.diagonal(dim1=-2, dim2=-1).sum(dim=-1, dtype=torch.float64)
            rounding.see(first, last, traces, len(grads))
            products = products.flatten(start_dim=1).index_select(1, self._lower)
            if not bool(exact.any()):
                sums += products
                return
            sums[~exact] += products[~exact]
        part = part[exact].to(torch.float64)
        products = torch.bmm(part.mT, part).flatten(start_dim=1)
        sums[exact] += products.index_select(1, self._lower)

    def _measure(self) -> None:
        """Raise the known smallest eigenvalues of blocks that have turned to float64.

        1 / trace(F^-1) of the gradients so far is a lower bound, since later ones only add to F. It
        is taken in float32: a block too ill-conditioned for that has no use for float32 products.
        """
        blocks = self._rounding.exact.nonzero().flatten()
        for some in blocks.split(max(1, self._workspace() // (8 * self.block_size**2))):
            fisher = self._packed[some[:, None, None], self._index].div_(self.num_grads)
            fisher.diagonal(dim1=-2, dim2=-1).add_(self.damp)
            scale = fisher.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
            factor, info = torch.linalg.cholesky_ex((fisher / scale[:, None, None]).float())
            sound = info == 0
            some, scale = some[sound], scale[sound]
            inverse = torch.cholesky_inverse(factor[sound])
            bound = scale / inverse.diagonal(dim1=-2, dim2=-1).sum(dim=-1, dtype=torch.float64)
            # float32 knows the bound to about B * 2^-24 * condition: half of it is safe to 1e4
            usable = torch.isfinite(bound) & (bound > 1e-4 * scale)
            self._rounding.raise_floor(some[usable], 0.5 * bound[usable])

    def _invert(self) -> None:
        if self._inverted:
            return
        for first, last in self.chunks():
            fisher = self._packed[first:last, self._index].div_(self.num_grads)
            fisher.diagonal(dim1=-2, dim2=-1).add_(self.damp)
            factor, info = torch.linalg.cholesky_ex(fisher)
            if bool(info.any()):
                raise StageError(
                    f"a Fisher block is not positive definite: its gradients are not finite, or"
                    f" too large for a damping of {self.damp:g}. Raise method.damp, or lower the"
                    " learning rate if training has diverged."
                )
            inverse = torch.cholesky_inverse(factor).flatten(start_dim=1)
            self._packed[first:last] = inverse.index_select(1, self._lower)
        self._inverted = True

    @torch.no_grad()
    def diag(self) -> Tensor:
        """The diagonal, float64 (d,)."""
        self._invert()
        return self._packed[:, self._index.diagonal()].flatten()[: self.num_weights]

    @torch.no_grad()
    def blocks(self, first: int = 0, last: int | None = None) -> Tensor:
        """Blocks `first` to `last` in full, float64 (blocks, B, B), padding included.

        All blocks together take twice the memory of the inverse as it is held.
        """
        self._invert()
        return self._packed[first:last, self._index]

    @torch.no_grad()
    def sub_blocks(self, size: int, first: int, last: int) -> Tensor:
        """The size x size blocks on the diagonal of blocks `first` to `last`.

        float64 (size, size, blocks, B / size): entries of one place lie together, which is what
        arithmetic on many small matrices wants. `size` must divide B.
        """
        self._invert()
        members = torch.arange(self.block_size, device=self.device).view(-1, size).T
        index = self._index[members[:, None], members[None, :]]  # (size, size, B / size)
        return self._packed[first:last, index].movedim(0, 2)

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
            part = self.split(vector, first, last).to(torch.float64).unsqueeze(-1)
            torch.bmm(self.blocks(first, last), part, out=result[first:last].unsqueeze(-1))
        return result.flatten()[: self.num_weights]


class _Rounding:
    """What float32 products have cost each block, and which blocks must do without them.

    A float32 product of k gradients with each other is off by about 2^-24 sqrt(k) |g_i| |g_j| in
    each entry at most (rounding errors that are independent of each other: Higham and Mary 2019,
    "A new approach to probabilistic rounding error analysis"), so by 2^-24 sqrt(k) trace in
    Frobenius norm; the errors of different products are added up as if none cancelled. An error E
    in F changes F^-1 by at most |E| / smallest eigenvalue, relatively. That eigenvalue is at least
    lambda, and what `raise_floor` is told later.
    """

    def __init__(
        self,
        num_blocks: int,
        num_grads: int,
        damp: float,
        tolerance: float,
        device: torch.device | str,
    ) -> None:
        self.error = torch.zeros(num_blocks, dtype=torch.float64, device=device)
        self.allowed = torch.full_like(self.error, tolerance * damp * num_grads)
        self.exact = torch.full_like(self.error, tolerance <= 0, dtype=torch.bool)
        self._scale = tolerance * num_grads

    def see(self, first: int, last: int, traces: Tensor, k: int) -> None:
        """Count k gradients' products of `traces`, or turn blocks to float64 for which they are
        too large."""
        after = self.error[first:last] + _UNIT * k**0.5 * traces
        exact = self.exact[first:last]
        exact |= ~(after <= self.allowed[first:last])  # not finite: too large
        self.error[first:last] = torch.where(exact, self.error[first:last], after)

    def raise_floor(self, blocks: Tensor, eigenvalue: Tensor) -> None:
        """These blocks' eigenvalues are at least so large: float32 is tried again."""
        self.allowed[blocks] = torch.maximum(self.allowed[blocks], self._scale * eigenvalue)
        self.exact[blocks] = False
