"""Inverses that wait on disk for a decision."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...schema import StageError
from .fisher import FisherInverse


class StoredInverse:
    """An inverse in a file: the lower triangles of its blocks, bit for bit."""

    def __init__(self, file: Any, inverse: FisherInverse) -> None:
        self.block_size = inverse.block_size
        self.device = inverse.device
        self._file = file
        self._begin = file.seek(0, 2)
        self._chunks = list(inverse.chunks())
        self._lower = torch.tril(torch.ones(self.block_size, self.block_size)).bool()
        for first, last in self._chunks:
            file.write(inverse.blocks(first, last).cpu()[:, self._lower].numpy().data)

    def chunks(self) -> Iterator[tuple[int, int]]:
        return iter(self._chunks)

    def blocks(self, first: int, last: int) -> Tensor:
        """Blocks `first` to `last` in full, float64 (blocks, B, B)."""
        size = self.block_size * (self.block_size + 1) // 2
        packed = np.empty((last - first, size))
        self._file.seek(self._begin + 8 * size * first)
        self._file.readinto(packed.data)
        result = torch.empty(last - first, self.block_size, self.block_size, dtype=torch.float64)
        result[:, self._lower] = torch.from_numpy(packed)
        result.mT[:, self._lower] = torch.from_numpy(packed)
        return result.to(self.device)


class Scratch:
    """A file in `folder` that has no name, so that it goes with the process, however that ends.

    StageError if the disk has no room for `size` bytes.
    """

    def __init__(self, folder: Path, size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < size:
            raise StageError(
                f"{size / 2**30:.1f} GiB of inverses are to wait in {folder}, which has"
                f" {free / 2**30:.1f} GiB free. Set cluster.scratch to a larger disk, to null to"
                " compute them again instead, or cluster.memory_gb higher."
            )
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__

    def keep(self, inverse: FisherInverse) -> StoredInverse:
        """Write an inverse down."""
        return StoredInverse(self._file, inverse)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
