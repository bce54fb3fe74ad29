"""What OBS takes from an inverse Fisher: costs of candidate sets, and updates of what stays.

Pure functions of an inverse and a weight (oBERT paper, section 3). A weight is a whole layer's
(out, in) or any run of its Fisher blocks, (1, n): blocks know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ...schema import StageError
from .fisher import FisherInverse, in_blocks


class InverseBlocks(Protocol):
    """What an update needs of an inverse, wherever it is held."""

    block_size: int

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Ranges (first, last) of blocks to be worked on at a time, all in order."""
        ...

    def blocks(self, first: int, last: int) -> Tensor:
        """Blocks `first` to `last` in full, float64 (blocks, B, B), padding included."""
        ...


@torch.no_grad()
def costs(
    inverse: FisherInverse, weight: Tensor, size: int, candidates: Sequence[Sequence[int]]
) -> Tensor:
    """OBS cost of each candidate set Q in each group of `size` consecutive weights.

    rho_Q = 1/2 w_Q^T [(F^-1)_QQ]^-1 w_Q, oBERT paper section 3.1; for a single weight that is
    w^2 / (2 (F^-1)_jj). weight: (out, in). Returns float32 (out, in / size), or
    (out, in / size, candidates) if there are several. `size` must divide `in` and B.
    """
    block_size = inverse.block_size
    _check_groups(block_size, size)
    out, inputs = weight.shape
    flat = weight.reshape(-1)
    groups = flat.numel() // size
    result = torch.empty(len(candidates), groups, device=weight.device)
    for first, last in inverse.chunks(block_size * size):
        sub = inverse.sub_blocks(size, first, last)
        w = _members(in_blocks(flat, block_size, first, last).to(torch.float64), size)
        begin = first * block_size // size
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
def compensated(inverse: InverseBlocks, weight: Tensor, pruned: Tensor, size: int) -> Tensor:
    """The weight after the groups' sets `pruned` have gone, in the weight's type.

    One simultaneous update w - F^-1 v, where v holds [(F^-1)_QQ]^-1 w_Q at each group's pruned set
    Q and 0 elsewhere; then the pruned weights are set to zero, since the groups' updates nudge each
    other (oBERT paper, section 3.2.1). weight, pruned (bool): (out, in).
    """
    _check_groups(inverse.block_size, size)

    def solve(blocks: Tensor, w: Tensor, gone: Tensor) -> Tensor:
        count, width = w.shape
        grid = blocks.view(count, width // size, size, width // size, size)
        sub = grid.diagonal(dim1=1, dim2=3).permute(1, 2, 0, 3)  # (size, size, blocks, groups)
        q, right = _members(gone, size), _members(w, size)
        # Outside Q the system is the identity with a zero right-hand side, so each group solves
        # for its own set, whatever its size.
        rows = [
            [torch.where(q[i] & q[j], sub[i, j], float(i == j)) for j in range(size)]
            for i in range(size)
        ]
        x = _solve(rows, [right[i] * q[i] for i in range(size)])
        return torch.stack(x, dim=-1).view(count, width)

    return _moved(inverse, weight, pruned, solve)


@torch.no_grad()
def jointly_compensated(inverse: InverseBlocks, weight: Tensor, pruned: Tensor) -> Tensor:
    """The weight after all of `pruned` has gone at once, in the weight's type.

    The exact minimum of the quadratic model in each Fisher block: w - F^-1 E^T (E F^-1 E^T)^-1 E w
    for the set that goes there, which is the published update of one group (oBERT paper, section
    3.1) with everything that a block loses as its group. weight, pruned (bool): (out, in).
    StageError if a system cannot be solved in float64.
    """

    def solve(blocks: Tensor, w: Tensor, gone: Tensor) -> Tensor:
        # As above: the identity, and a zero right-hand side, for what stays.
        system = blocks * (gone.unsqueeze(-1) & gone.unsqueeze(-2))
        system.diagonal(dim1=-2, dim2=-1).add_((~gone).to(torch.float64))
        factor, info = torch.linalg.cholesky_ex(system)
        if bool(info.any()):
            raise StageError(
                "the joint OBS update of a Fisher block has no solution in float64: its weights are"
                " too strongly correlated. Raise method.damp, or set method.update=simultaneous."
            )
        return torch.cholesky_solve((w * gone).unsqueeze(-1), factor).squeeze(-1)

    return _moved(inverse, weight, pruned, solve)


def _moved(
    inverse: InverseBlocks,
    weight: Tensor,
    pruned: Tensor,
    solve: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """w - F^-1 v with v = solve(blocks, w, gone), a few blocks at a time; then zeros."""
    block_size = inverse.block_size
    flat, gone = weight.reshape(-1), pruned.reshape(-1)
    result = torch.empty_like(flat)
    for first, last in inverse.chunks():
        begin, end = first * block_size, last * block_size
        blocks = inverse.blocks(first, last)
        w = in_blocks(flat, block_size, first, last).to(torch.float64)
        v = solve(blocks, w, in_blocks(gone, block_size, first, last))
        moved = w - torch.bmm(blocks, v.unsqueeze(-1)).squeeze(-1)
        result[begin:end] = moved.flatten()[: flat[begin:end].numel()]
    return result.masked_fill_(gone, 0.0).view_as(weight)


def _check_groups(block_size: int, size: int) -> None:
    if block_size % size:
        raise ValueError(f"groups of {size} do not divide Fisher blocks of {block_size}")


def _members(values: Tensor, size: int) -> Tensor:
    """(blocks, B) -> (size, blocks, B / size): member i of each group."""
    return values.unflatten(-1, (-1, size)).movedim(-1, 0)


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
