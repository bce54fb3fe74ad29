"""What OBS takes from an inverse Fisher: costs of candidate sets, and updates of what stays.

Pure functions of an inverse and a weight (oBERT paper, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .fisher import FisherInverse


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
    flat, gone = weight.reshape(-1), pruned.reshape(-1)
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
    return _moved(inverse, weight, v, gone)


@torch.no_grad()
def jointly_compensated(inverse: FisherInverse, weight: Tensor, pruned: Tensor) -> Tensor:
    """The weight after all of `pruned` has gone at once, in the weight's type.

    The exact minimum of the quadratic model in each Fisher block: w - F^-1 E^T (E F^-1 E^T)^-1 E w
    for the set that goes there, which is the published update of one group (oBERT paper, section
    3.1) with everything that a block loses as its group. weight, pruned (bool): (out, in).
    """
    flat, gone = weight.reshape(-1), pruned.reshape(-1)
    v = torch.zeros(flat.numel(), dtype=torch.float64, device=weight.device)
    for first, last in inverse.chunks():
        q = inverse.split(gone, first, last)
        w = inverse.split(flat, first, last).to(torch.float64) * q
        # As above: the identity, and a zero right-hand side, for what stays.
        system = inverse.blocks(first, last) * (q.unsqueeze(-1) & q.unsqueeze(-2))
        system.diagonal(dim1=-2, dim2=-1).add_((~q).to(torch.float64))
        x = torch.cholesky_solve(w.unsqueeze(-1), torch.linalg.cholesky(system))
        part = v[first * inverse.block_size : last * inverse.block_size]
        part.copy_(x.flatten()[: len(part)])
    return _moved(inverse, weight, v, gone)


def _moved(inverse: FisherInverse, weight: Tensor, v: Tensor, gone: Tensor) -> Tensor:
    updated = weight.reshape(-1) - inverse.mul(v)
    return updated.to(weight.dtype).masked_fill_(gone, 0.0).view_as(weight)


def _members(inverse: FisherInverse, values: Tensor, size: int, first: int, last: int) -> Tensor:
    """(d,) -> float64 (size, blocks, B / size): member i of each group."""
    part = inverse.split(values, first, last).to(torch.float64)
    return part.unflatten(-1, (-1, size)).movedim(-1, 0)


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
