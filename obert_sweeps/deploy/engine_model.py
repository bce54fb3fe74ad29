"""An engine in the place of a torch model: evaluation then runs it over a validation set."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .engines.base import Arrays, Engine

ROWS = 8  # at once, in an engine of fixed shapes
LENGTHS = 64  # and padded to a multiple of so many tokens


class EngineModel(nn.Module):
    """`train.evaluate.evaluate` takes it as a model: the accuracy is the engine's own.

    An engine of fixed shapes gets batches of `ROWS` rows, so that it compiles for few of them.
    `longest` is the model's number of positions.
    """

    def __init__(self, engine: Engine, longest: int = 512) -> None:
        super().__init__()
        self.engine = engine
        self.longest = longest

    def forward(self, **inputs: Tensor) -> Any:
        arrays = {name: tensor.cpu().numpy() for name, tensor in inputs.items()}
        logits = self._fixed(arrays) if self.engine.fixed_shapes else self.engine.run(arrays).logits
        return SimpleNamespace(
            **{name: torch.from_numpy(np.array(values)) for name, values in logits.items()}
        )

    def _fixed(self, arrays: Arrays) -> dict[str, np.ndarray]:
        rows, length = next(iter(arrays.values())).shape
        width = min(-(-length // LENGTHS) * LENGTHS, self.longest)
        parts = []
        for first in range(0, rows, ROWS):
            part = {name: _padded(a[first : first + ROWS], width) for name, a in arrays.items()}
            parts.append(self.engine.run(part).logits)
        whole = {name: np.concatenate([p[name] for p in parts])[:rows] for name in parts[0]}
        return {
            name: values[:, :length] if values.shape[1] == width else values
            for name, values in whole.items()
        }


def _padded(array: np.ndarray, width: int) -> np.ndarray:
    """ROWS rows of `width`: zeros (no token) on the right, and the last row again below."""
    wide = np.pad(array, ((0, 0), (0, width - array.shape[1])))
    return np.pad(wide, ((0, ROWS - len(wide)), (0, 0)), mode="edge")
