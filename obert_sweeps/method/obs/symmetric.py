"""Many small symmetric matrices, held and added to by half."""

from __future__ import annotations

import torch
from torch import Tensor


class SymmetricBlocks:
    """`count` symmetric B x B matrices in float64, B (B + 1) / 2 numbers each.

    Rectangular full packed storage (Gustavson et al. 2010, ACM Trans. Math. Softw. 37): the matrix
    is cut behind its first q = B // 2 rows; its lower rows stand in a rectangle as they are, and
    the upper left corner, transposed, fills the triangle that they leave free:

        B = 4:   a . . .       c d f a b        `below` is the rows c d f . and g h i j,
                 b e . .       g h i j e        `corner` the square a b e of the first q rows.
                 c d f .
                 g h i j

    Products of halves (matrix times matrix) enter by two strided additions; no gather is needed.
    `values` (count, B - q, 2 q + 1) holds it all.
    """

    def __init__(self, count: int, size: int, device: torch.device | str) -> None:
        self.count = count
        self.size = size
        self._cut = size // 2
        shape = (count, size - self._cut, 2 * self._cut + 1)
        self.values = torch.zeros(shape, dtype=torch.float64, device=device)
        self._below = torch.ones(shape[1], size, dtype=torch.float64, device=device)
        self._below = self._below.tril(self._cut)
        self._corner = torch.ones(self._cut, self._cut, dtype=torch.float64, device=device).triu()
        place = torch.arange(size, device=device)
        i, j = torch.maximum(place[:, None], place), torch.minimum(place[:, None], place)
        inside = (i - self._cut) * shape[2] + j
        self._place = torch.where(i >= self._cut, inside, j * shape[2] + self._cut + 1 + i)

    @property
    def device(self) -> torch.device:
        return self.values.device

    def add(self, chosen: slice | Tensor, below: Tensor, corner: Tensor) -> None:
        """Add symmetric matrices, given by halves, to the chosen ones."""
        values = self.values[chosen]
        self._put(values, below, corner)
        if isinstance(chosen, Tensor):  # a copy
            self.values[chosen] = values

    def _put(self, values: Tensor, below: Tensor, corner: Tensor) -> None:
        values[..., : self.size].addcmul_(below, self._below)
        values[..., : self._cut, self._cut + 1 :].addcmul_(corner, self._corner)

    def lower(self, chosen: slice | Tensor) -> Tensor:
        """A copy (n, B, B) of the chosen ones that is right on and below the diagonal only."""
        values = self.values[chosen]
        full = values.new_empty(len(values), self.size, self.size)
        full[:, self._cut :] = values[..., : self.size]
        full[:, : self._cut, : self._cut] = values[..., : self._cut, self._cut + 1 :].mT
        return full

    def replace(self, chosen: slice | Tensor, lower: Tensor) -> None:
        """Put matrices (n, B, B), read on and below the diagonal, in the place of the chosen."""
        values = lower.new_zeros(len(lower), *self.values.shape[1:])
        corner = lower[:, : self._cut, : self._cut].mT
        self._put(values, lower[:, self._cut :], corner)
        self.values[chosen] = values

    def at(self, rows: Tensor, columns: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """Entries at index tensors of one shape (broadcast), of each matrix: (n, *shape)."""
        return self.values[first:last].flatten(start_dim=1)[:, self._place[rows, columns]]


class Products:
    """Sums of products A^T A of scaled matrices, by halves, as SymmetricBlocks.add takes them.

    What it returns stands in memory that the next call of the same type uses again: fresh memory
    for each tile would be fetched from the system each time, page by page, at the cost of the
    arithmetic itself. tile: the most matrices at a time. rows, size: of each, k and B.
    """

    def __init__(self, tile: int, rows: int, size: int, device: torch.device) -> None:
        cut = size // 2
        self._shapes = [(tile, rows, size), (tile, size - cut, size), (tile, cut, cut)]
        self._cut = cut
        self._device = device
        self._memory: dict[torch.dtype, list[Tensor]] = {}

    def __call__(self, part: Tensor, scale: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """part (n, k, B) times scale (n, 1, B): A. Returns (n, B - q, B) and (n, q, q)."""
        if dtype not in self._memory:
            self._memory[dtype] = [
                torch.empty(shape, dtype=dtype, device=self._device) for shape in self._shapes
            ]
        rows, below, corner = (memory[: len(part)] for memory in self._memory[dtype])
        torch.mul(part, scale, out=rows)
        low, high = rows[..., : self._cut], rows[..., self._cut :]
        torch.bmm(high.mT, rows, out=below)
        torch.bmm(low.mT, low, out=corner)
        return below, corner
