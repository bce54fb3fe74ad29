"""What sums of float32 products may cost an inverse, and for which blocks that is too much."""

from __future__ import annotations

import torch
from torch import Tensor

_UNIT = 2.0**-24  # the largest relative error of one float32 operation


class Rounding:
    """The error of each block's inverse from products formed in float32, bounded as they come.

    Let A = m lambda I + sum g g^T be a block and E the error of A from float32 products. If
    A >= f D^-2 for a diagonal D and |D E D|_F <= e f, then -e A <= E <= e A, and A^-1 changes,
    relative to itself, by at most e to first order. So gradients are multiplied by D before all
    else: powers of two that make A's diagonal about even, which rounds nothing. Then E is bounded
    by what is seen of the products: forming k of them adds k roundings, each at most 2^-24 of a
    partial sum, and partial sums of g g^T grow, so |E|_F <= 2^-24 sqrt(k) |Q|_F for the sum Q of
    the k. Roundings are taken as independent, so squares are added, within a sum and over sums
    (Higham and Mary 2019, "A new approach to probabilistic rounding error analysis", SIAM J. Sci.
    Comput. 41).

    The floor f begins as m lambda, D = 1, which the damping guarantees. It can be raised once the
    gradients seen are known to span the block. A block may use the tolerance up no faster than its
    gradients come; where it would, its products are `exact` (float64) until the floor is raised.
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        floor: float,
        num_grads: int,
        tolerance: float,
        device: torch.device | str,
    ) -> None:
        self.num_grads = num_grads
        self.tolerance = tolerance
        self.exact = torch.full((num_blocks,), tolerance <= 0, device=device)
        self.scale = torch.ones(num_blocks, block_size, device=device)  # D
        self._floor = torch.full((num_blocks,), floor, dtype=torch.float64, device=device)
        self._squared = torch.zeros_like(self._floor)

    @property
    def bound(self) -> Tensor:
        """(blocks,): what float32 has cost each inverse at most, relatively."""
        return self._squared.sqrt()

    def admit(
        self, blocks: slice | Tensor, below: Tensor, corner: Tensor, k: int, seen: int
    ) -> None:
        """Count float32 sums of k products of `blocks`, or make them exact.

        below, corner: as Products gives them. seen: gradients so far, the k included.
        """
        left = below[..., : corner.shape[-1]]  # stands for what is above the diagonal as well
        size = _squared_norm(below) + _squared_norm(left) + _squared_norm(corner)
        squared = self._squared[blocks]
        after = squared + _UNIT**2 * k * size / self._floor[blocks].square()
        share = min(1.0, seen / self.num_grads)
        # not above it: also where it is not finite
        exact = self.exact[blocks] | ~(after <= share * self.tolerance**2)
        self._squared[blocks] = torch.where(exact, squared, after)
        self.exact[blocks] = exact

    def needed(self, squared_norm: Tensor, trace: Tensor, k: int, seen: int) -> Tensor:
        """The floor that should last for the gradients still to come, in sums of k.

        squared_norm (Frobenius), trace: of the scaled sum so far. Sums of k to come are taken to be
        like it, but for having k terms only. An estimate: where it is too low, the block turns to
        float64 again.
        """
        size = (k / seen) ** 2 * (squared_norm + trace.square() / k)
        return 1.4 * _UNIT / self.tolerance * torch.sqrt((self.num_grads - seen) * size)

    def raise_floor(self, blocks: Tensor, change: Tensor, floor: Tensor) -> None:
        """D is multiplied by `change` (blocks, B), and then A >= floor D^-2: float32 again."""
        self.scale[blocks] *= change.to(self.scale.dtype)
        self._floor[blocks] = floor
        self.exact[blocks] = False


def _squared_norm(matrices: Tensor) -> Tensor:
    """(n, ., .) -> float64 (n,)."""
    return torch.linalg.vector_norm(matrices, dim=(-2, -1)).to(torch.float64).square()
