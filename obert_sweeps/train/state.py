"""What a training stage is at some step, and how it is saved and restored bit for bit."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from ..method.base import Method
from ..schema import StageError
from ..sparsity.mask import Masks
from .cost import Spent
from .seeds import random_states, set_random_states

FILE = "state.pt"
_FORMAT = 1


@dataclass
class Best:
    """The best evaluation so far; weights and masks lie on the CPU."""

    score: float
    epoch: float
    metrics: dict[str, float]
    weights: dict[str, Tensor]
    masks: dict[str, Tensor]


@dataclass
class State:
    """Weights, masks, optimiser, method, position in the data, random states, the best so far.

    The position is the number of steps taken: learning rate, batches and what collating draws
    follow from it and the seed.
    """

    model: nn.Module
    masks: Masks
    method: Method
    optimizer: torch.optim.Optimizer
    step: int = 0  # optimiser steps taken
    pruned_at: int = -1  # the last step before which weights were pruned
    stopped: bool = False  # no step follows although some are left
    metrics: dict[str, float] = field(default_factory=dict)  # of the last evaluation
    best: Best | None = None
    spent: Spent = field(default_factory=Spent)

    def save(self, folder: Path, stage_id: str) -> None:
        """Write everything into `folder`."""
        best = self.best
        content = {
            "format": _FORMAT,
            "stage": stage_id,
            "model": self.model.state_dict(),
            "masks": self.masks.state_dict(),
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "pruned_at": self.pruned_at,
            "stopped": self.stopped,
            "metrics": self.metrics,
            "best": None if best is None else {f.name: getattr(best, f.name) for f in fields(best)},
            "spent": asdict(self.spent),
            "random": random_states(),
        }
        torch.save(content, folder / FILE)

    def load(self, folder: Path, stage_id: str) -> None:
        """Become what `save` wrote, random states of this process included.

        StageError if it belongs to another stage or another version of this format.
        """
        content = torch.load(folder / FILE, map_location="cpu", weights_only=True)
        if content.get("format") != _FORMAT or content.get("stage") != stage_id:
            raise StageError(
                f"{folder} is a checkpoint of stage {content.get('stage')} in format"
                f" {content.get('format')}, not of {stage_id} in format {_FORMAT}. Delete that"
                " folder; the stage then starts from its beginning."
            )
        self.model.load_state_dict(content["model"])
        self.masks.load_state_dict(content["masks"])
        self.method.load_state_dict(content["method"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step = content["step"]
        self.pruned_at = content["pruned_at"]
        self.stopped = content["stopped"]
        self.metrics = content["metrics"]
        self.best = Best(**content["best"]) if content["best"] else None
        self.spent = Spent(**content["spent"])
        set_random_states(content["random"])

    def keep_best(self, score: float, epoch: float) -> None:
        """Remember weights, masks and metrics as they are now."""
        self.best = Best(
            score,
            epoch,
            dict(self.metrics),
            {name: _copy(tensor) for name, tensor in self.model.state_dict().items()},
            {name: _copy(tensor) for name, tensor in self.masks.state_dict().items()},
        )

    def restore_best(self) -> None:
        """Put the best weights and masks back; nothing happens if there is no best."""
        if self.best is not None:
            self.model.load_state_dict(self.best.weights)
            self.masks.load_state_dict(self.best.masks)

    def rewind(self, encoder: dict[str, Tensor]) -> None:
        """Put the encoder's weights back to these, the task head not; the optimiser starts anew."""
        self.model.base_model.load_state_dict(encoder)
        self.optimizer.state.clear()


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
