"""The workers of one stage: one process, or several that exchange tensors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


class WorkerGroup:
    """A group of one: every exchange gives back what went in.

    Groups of several override the exchanges. All workers call them in the same order; each raises
    WorkerLost if another worker has died or does not answer in time. `rank` is 0 .. size - 1.
    """

    rank: int = 0
    size: int = 1

    def sum(self, tensor: Tensor) -> Tensor:
        """Add up the workers' tensors, of one shape, in place; every worker gets the sum."""
        return tensor

    def send_all(self, tensor: Tensor, source: int = 0) -> Tensor:
        """Fill every worker's tensor with that of worker `source`, in place."""
        return tensor

    def gather(self, tensor: Tensor, lengths: Sequence[int]) -> Tensor:
        """The workers' 1-d tensors in a row, `lengths[r]` long at worker r; all get the whole."""
        return tensor

    def exchange(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Send `parts[r]` to worker r; get the parts that the workers sent here, by rank.

        Tensors are of one type and of any shape (..., n): all that arrive here have the shape of
        this worker's own part for itself.
        """
        return list(parts)

    def wait(self) -> None:
        """Return when every worker has come here."""


ALONE = WorkerGroup()
