"""A quantised model in files: its ranges in a stage's weights, and weights without them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..schema import StageError
from .quantize import ranges


def has_ranges(folder: str | Path) -> bool:
    """Whether the model saved in a folder was quantised."""
    with safe_open(Path(folder) / "model.safetensors", "pt") as file:
        return any(name.endswith("_range.low") for name in file.keys())  # noqa: SIM118 - no mapping


def load_ranges(model: nn.Module, folder: str | Path) -> None:
    """The ranges that a quantised model was saved with, into a quantised model of its shape.

    StageError if the folder's weights hold none, or not all.
    """
    with safe_open(Path(folder) / "model.safetensors", "pt") as file:
        held = set(file.keys())
        for name, place in ranges(model):
            for end in ("low", "high"):
                if f"{name}.{end}" not in held:
                    raise StageError(
                        f"{folder} has no range for {name}: the model in it was not trained with"
                        " quantisation, or is another. Name a stage that quantises."
                    )
                getattr(place, end).copy_(file.get_tensor(f"{name}.{end}"))


@torch.no_grad()
def plain_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state of the model without quantisation: weights rounded to what INT8 holds, no ranges.

    A pruned weight is zero in it, and a model in float32 loads it.
    """
    state = dict(model.state_dict())
    for name, place in ranges(model):
        owner, _, part = name.rpartition(".")
        if part == "weight_range":
            place.check()
            state[f"{owner}.weight"] = place.imitate(state[f"{owner}.weight"])
        state.pop(f"{name}.low")
        state.pop(f"{name}.high")
    return state
