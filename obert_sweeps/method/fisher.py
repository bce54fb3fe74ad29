"""The inverse of the damped empirical Fisher, and what OBS takes from it.

F = lambda I + (1/m) sum_i g_i g_i^T, block-diagonal with blocks of B consecutive weights of the
row-major (out, in) weight (oBERT paper, section 3; sparseml modifier_pruning_obs.py). Scores and
updates are pure functions of an inverse and a weight.

The published way is a rank-1 (Sherman-Morrison) recursion on the inverse in float32. It reads and
writes all d * B numbers for each gradient, and it loses digits with the condition number of F:
with lambda = 1e-7 and gradients of unit scale, nearly half of them. Here the products g g^T are
summed first, k gradients at a time, and each block is factorised once:

* sums and inverse are float64. A product of two float32 numbers is exact there, and the error of
  an inverse is about 1e-16 times the condition number, at most some 1e10 in use.
* both are symmetric, so only the lower triangle is held: 8 bytes * B (B + 1) / 2 a block, what a
  full float32 block takes. The inverse replaces the sums in place.
* operations: 2 d B m for the sums, about 2 d B^2 for the factorisation; the memory is passed
  m / k times instead of m times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..schema import StageError

_WORKSPACE = {"cpu": 1 << 20, "cuda": 256 << 20}  # bytes of numbers worked on at a time


class FisherInverse:
    """Block-diagonal (lambda I + 1/m sum g g^T)^-1 of `num_weights` weights.

    num_weights: d. block_size: B; if it does not divide d the last block is padded with zero
    gradients. damp: lambda > 0. num_grads: m, what the sum is divided by, even if fewer gradients
    come. First `add`, then read: the first reading inverts, and nothing can be added after it.
    """

    def __init__(
        self,
        num_weights: int,
        block_size: int,
        damp: float,
        num_grads: int,
        device: torch.device | str = "cpu",
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

    @property
    def device(self) -> torch.device:
        return self._packed.device

    def chunks(self, numbers: int | None = None) -> Iterator[tuple[int, int]]:
        """Ranges (first, last) of blocks that fit the work space, at `numbers` (B^2) a block."""
        budget = _WORKSPACE.get(self.device.type, _WORKSPACE["cpu"])
        step = max(1, budget // (8 * (numbers or self.block_size**2)))
        for first in range(0, self.num_blocks, step):
            yield first, min(first + step, self.num_blocks)

    def split(self, values: Tensor, first: int, last: int) -> Tensor:
        """Cut (..., d) to blocks `first` to `last`: float64 (..., last - first, B), zero-padded."""
        part = values[..., first * self.block_size : last * self.block_size]
        missing = (last - first) * self.block_size - part.shape[-1]
        part = part.to(torch.float64)
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
        self.added += len(grads)
        for first, last in self.chunks():
            part = self.split(grads, first, last).transpose(0, 1)  # (blocks, k, B)
            products = torch.bmm(part.mT, part).flatten(start_dim=1)
            self._packed[first:last] += products[:, self._lower]

    def _invert(self) -> None:
        if self._inverted:
            return
        identity = torch.eye(self.block_size, dtype=torch.float64, device=self.device)
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
            # F^-1 = L^-T L^-1: positive definite by construction, and batched on every device
            root = torch.linalg.solve_triangular(
                factor, identity.expand(last - first, -1, -1), upper=False
            )
            inverse = torch.bmm(root.mT, root).flatten(start_dim=1)
            self._packed[first:last] = inverse[:, self._lower]
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
            part = self.split(vector, first, last).unsqueeze(-1)
            torch.bmm(self.blocks(first, last), part, out=result[first:last].unsqueeze(-1))
        return result.flatten()[: self.num_weights]


@torch.no_grad()
def costs(
    inverse: FisherInverse, weight: Tensor, size: int, candidates: Sequence[Sequence[int]]
) -> Tensor:
    """OBS cost of each candidate set Q in each group of `size` consecutive weights.

    rho_Q = 1/2 w_Q^T [(F^-1)_QQ]^-1 w_Q, oBERT paper section 3.1; for a single weight that is
    w^2 / (2 (F^-1)_jj). weight: (out, in). Returns float32 (out, in / size), or
    (out, in / size, candidates) if there are several. `size` must divide `in` and B.
    """
    out, inputs = weight.shape
    flat = weight.reshape(-1)
    groups = flat.numel() // size
    result = torch.empty(len(candidates), groups, device=weight.device)
    for first, last in inverse.chunks(inverse.block_size * size):
        sub, w = _grouped(inverse, flat, size, first, last)
        begin = first * inverse.block_size // size
        end = min(begin + w[0].numel(), groups)
        for row, members in enumerate(candidates):
            _, halves, pivots = _eliminate(
                [[sub[i, j] for j in members] for i in members], [w[i] for i in members]
            )
            rho = sum(0.5 * y * y / p for y, p in zip(halves, pivots, strict=True))
            assert isinstance(rho, Tensor)
            result[row, begin:end] = rho.flatten()[: end - begin]
    shape = (out, inputs // size)
    return result[0].view(shape) if len(candidates) == 1 else result.T.reshape(*shape, -1)


@torch.no_grad()
def compensated(inverse: FisherInverse, weight: Tensor, pruned: Tensor, size: int) -> Tensor:
    """The weight after the groups' sets `pruned` have gone, in the weight's type.

    One simultaneous update w - F^-1 v, where v holds [(F^-1)_QQ]^-1 w_Q at each group's pruned set
    Q and 0 elsewhere; then the pruned weights are set to zero, since the groups' updates nudge each
    other (oBERT paper, section 3.2.1). weight, pruned (bool): (out, in).
    """
    flat = weight.reshape(-1)
    gone = pruned.reshape(-1)
    v = torch.zeros(flat.numel(), dtype=torch.float64, device=weight.device)
    for first, last in inverse.chunks(inverse.block_size * size):
        sub, w = _grouped(inverse, flat, size, first, last)
        q = _members(inverse, gone, size, first, last) > 0
        # Outside Q the system is the identity with a zero right-hand side, so each group solves
        # for its own set, whatever its size.
        rows = [
            [torch.where(q[i] & q[j], sub[i, j], float(i == j)) for j in range(size)]
            for i in range(size)
        ]
        x = _solve(rows, [w[i] * q[i] for i in range(size)])
        part = v[first * inverse.block_size : last * inverse.block_size]
        part.copy_(torch.stack(x, dim=-1).flatten()[: len(part)])
    updated = flat - inverse.mul(v)
    return updated.to(weight.dtype).masked_fill_(gone, 0.0).view_as(weight)


def _members(inverse: FisherInverse, values: Tensor, size: int, first: int, last: int) -> Tensor:
    """(d,) -> float64 (size, blocks, B / size): member i of each group."""
    return inverse.split(values, first, last).unflatten(-1, (-1, size)).movedim(-1, 0)


def _grouped(
    inverse: FisherInverse, flat: Tensor, size: int, first: int, last: int
) -> tuple[Tensor, Tensor]:
    if inverse.block_size % size:
        raise ValueError(f"groups of {size} do not divide Fisher blocks of {inverse.block_size}")
    return inverse.sub_blocks(size, first, last), _members(inverse, flat, size, first, last)


def _eliminate(
    rows: list[list[Tensor]], right: list[Tensor]
) -> tuple[list[list[Tensor]], list[Tensor], list[Tensor]]:
    """A = L D L^T of many small symmetric positive definite matrices at once; reads A's lower half.

    Returns L D (its lower half), y = L^-1 b, and the pivots D, so that b^T A^-1 b = sum y^2 / D.
    Positive definite matrices need no pivoting.
    """
    a = [list(row) for row in rows]
    y = list(right)
    size = len(y)
    for k in range(size):
        for i in range(k + 1, size):
            factor = a[i][k] / a[k][k]
            for j in range(k + 1, i + 1):
                a[i][j] = a[i][j] - factor * a[j][k]
            y[i] = y[i] - factor * y[k]
    return a, y, [a[k][k] for k in range(size)]


def _solve(rows: list[list[Tensor]], right: list[Tensor]) -> list[Tensor]:
    """A^-1 b for many small symmetric positive definite A."""
    a, y, pivots = _eliminate(rows, right)
    size = len(y)
    x = list(y)
    for k in reversed(range(size)):
        total = y[k]
        for i in range(k + 1, size):
            total = total - a[i][k] * x[i]
        x[k] = total / pivots[k]
    return x
