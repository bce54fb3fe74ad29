"""What every method of conf/method keeps to, whatever it does inside.

A new leaf is held to this by being there. A method that needs small numbers to be quick gets them
in SMALL; one that cannot serve a pattern, or lets weights grow back, says so below.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import nn

from obert_sweeps.method.base import Method, PruneStep
from obert_sweeps.schema import StageError
from obert_sweeps.sparsity.mask import Masks
from obert_sweeps.sparsity.pattern import pattern_named

FOLDER = Path(__file__).resolve().parents[2] / "conf" / "method"
LEAVES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SMALL: dict[str, dict[str, Any]] = {
    "obert": {"num_grads": 24, "grad_batch_size": 4},
    "platon": {"window": 1},
}
PATTERNS: dict[str, list[str]] = {"dense": []}  # default: all three
REGROWS = {"platon", "movement", "soft_movement", "l0"}
STEPS_BEFORE = {name: 3 for name in REGROWS}  # optimiser steps that must come before any pruning

PRUNERS = [name for name in LEAVES if PATTERNS.get(name) != []]
CASES = [
    (name, pattern)
    for name in PRUNERS
    for pattern in PATTERNS.get(name, ["unstructured", "block4", "2of4"])
]
GRADUAL = [case for case in CASES if case[1] != "2of4"]
LEVELS = {1: 0.3, 3: 0.55, 5: 0.7}  # optimiser step -> sparsity


def leaf(name: str) -> dict[str, Any]:
    data = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items()}


def made(name: str) -> Method:
    data = leaf(name)
    module, _, class_name = data.pop("_target_").rpartition(".")
    data.pop("source")
    data.pop("assumed")
    method = getattr(import_module(module), class_name)(**{**data, **SMALL.get(name, {})})
    assert isinstance(method, Method)
    return method


class Model(nn.Module):
    """Two prunable layers and a head that is not, on a small regression."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(24, 20)
        self.second = nn.Linear(20, 12)
        self.head = nn.Linear(12, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))

    def layers(self) -> dict[str, nn.Linear]:
        return {"first": self.first, "second": self.second}


def batch(seed: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(rows, 24, generator=torch.Generator().manual_seed(seed))
    return x, torch.stack([x[:, :4].sum(1), x[:, 4] * 2], 1)


@dataclass
class Run:
    """A training run as the loop does it, at the size of a test."""

    model: Model
    masks: Masks
    method: Method
    optimizer: torch.optim.Optimizer

    @classmethod
    def start(cls, name: str) -> Run:
        torch.manual_seed(0)
        model = Model()
        masks = Masks(model.layers())
        method = made(name)
        groups = [{"params": list(model.parameters())}, *method.attach(model.layers(), masks)]
        return cls(model, masks, method, torch.optim.SGD(groups, lr=0.05))

    def gradients(
        self, count: int, batch_size: int, *, draw: int = 0, layers: Any = None
    ) -> Iterator[tuple[str, torch.Tensor]]:
        chosen = {n: m for n, m in self.model.layers().items() if layers is None or n in layers}
        for i in range(count):
            x, y = batch(1000 * (draw + 1) + i, batch_size)
            loss = nn.functional.mse_loss(self.model(x), y)
            grads = torch.autograd.grad(loss, [m.weight for m in chosen.values()])
            for name, grad in zip(chosen, grads, strict=True):
                yield name, grad.unsqueeze(0)
                grad.fill_(torch.nan)  # valid only until the next one is drawn

    def prune(self, pattern: str, level: float, final: bool = True, seed: int = 0) -> None:
        self.method.prune(
            PruneStep(
                layers=self.model.layers(),
                masks=self.masks,
                pattern=pattern_named(pattern),
                level=level,
                final=final,
                gradients=self.gradients,
                seed=seed,
            )
        )

    def steps(self, pattern: str, levels: dict[int, float], first: int, last: int) -> None:
        for step in range(first, last):
            if step in levels:
                self.prune(pattern, levels[step], final=step == max(levels), seed=step)
                self.masks.check()
            self.optimizer.zero_grad()
            x, y = batch(step, 16)
            loss = nn.functional.mse_loss(self.model(x), y)
            penalty = self.method.penalty()
            (loss if penalty is None else loss + penalty).backward()
            self.optimizer.step()
            self.method.after_step()
            self.masks.apply()
            self.masks.check()


@pytest.mark.parametrize("name", LEAVES)
def test_the_leaf_is_the_constructor(name):
    data = leaf(name)
    module, _, class_name = data.pop("_target_").rpartition(".")
    method = getattr(import_module(module), class_name)
    assert data.pop("source").strip()
    assumed = data.pop("assumed") or {}
    parameters = inspect.signature(method).parameters
    assert set(data) == set(parameters)
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
    for key, reason in assumed.items():
        why = reason if isinstance(reason, str) else reason["why"]
        assert OmegaConf.select(OmegaConf.create(data), key) is not None and len(why) > 20
    text = (FOLDER / f"{name}.yaml").read_text().splitlines()
    for key in data:
        (line,) = [line for line in text if line.startswith(f"{key}:")]
        assert "  # " in line, f"{key} has no comment"
    assert "Source:" in (method.__doc__ or "")


@pytest.mark.parametrize(("name", "pattern"), CASES)
def test_one_shot_reaches_the_target_with_exact_zeros(name, pattern):
    run = Run.start(name)
    level = 0.5 if pattern == "2of4" else 0.62
    run.steps(pattern, {}, 0, STEPS_BEFORE.get(name, 0))
    run.prune(pattern, level)
    run.masks.check()
    group = pattern_named(pattern).size
    total = sum(layer.weight.numel() for layer in run.model.layers().values())
    assert abs(run.masks.sparsity() * total - level * total) <= group
    for layer, keep in run.masks.keep.items():
        weight = run.model.layers()[layer].weight
        assert torch.isfinite(weight).all() and not weight[~keep].any()
        if pattern == "block4":
            groups = keep.view(-1, 4)
            assert bool((groups.all(1) | ~groups.any(1)).all())
        if pattern == "2of4":
            assert bool((keep.view(-1, 4).sum(1) == 2).all())


@pytest.mark.parametrize(("name", "pattern"), GRADUAL)
def test_gradual_pruning_reaches_each_level_and_masks_only_grow(name, pattern):
    run = Run.start(name)
    total = sum(layer.weight.numel() for layer in run.model.layers().values())
    before = run.masks.keep
    for step in range(8):
        run.steps(pattern, LEVELS, step, step + 1)
        if step == max(LEVELS) or (step in LEVELS and name not in REGROWS):
            assert abs(run.masks.sparsity() - LEVELS[step]) * total <= pattern_named(pattern).size
        after = run.masks.keep
        if name not in REGROWS:
            assert not any(bool((after[n] & ~before[n]).any()) for n in after)
        before = after
    assert abs(run.masks.sparsity() - LEVELS[max(LEVELS)]) * total <= pattern_named(pattern).size


@pytest.mark.parametrize(("name", "pattern"), CASES)
def test_the_same_run_gives_the_same_bits(name, pattern):
    levels = {2: 0.5} if pattern == "2of4" else LEVELS
    runs = [Run.start(name), Run.start(name)]
    for run in runs:
        run.steps(pattern, levels, 0, 8)
    for a, b in zip(runs[0].model.parameters(), runs[1].model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("name", "pattern"), CASES)
def test_saving_and_loading_in_the_middle_changes_nothing(name, pattern, tmp_path):
    levels = {2: 0.5} if pattern == "2of4" else LEVELS
    whole = Run.start(name)
    whole.steps(pattern, levels, 0, 8)

    first = Run.start(name)
    first.steps(pattern, levels, 0, 4)
    save_file(first.model.state_dict(), tmp_path / "model.safetensors")
    save_file(first.masks.state_dict(), tmp_path / "masks.safetensors")
    torch.save(
        {"method": first.method.state_dict(), "optimizer": first.optimizer.state_dict()},
        tmp_path / "state.pt",
    )
    second = Run.start(name)
    second.model.load_state_dict(load_file(tmp_path / "model.safetensors"))
    second.masks.load_state_dict(load_file(tmp_path / "masks.safetensors"))
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    second.method.load_state_dict(state["method"])
    second.optimizer.load_state_dict(state["optimizer"])
    second.steps(pattern, levels, 4, 8)

    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(whole.masks.keep[n], k) for n, k in second.masks.keep.items())


def test_dense_leaves_everything_and_refuses_to_prune():
    run = Run.start("dense")
    before = [p.detach().clone() for p in run.model.parameters()]
    run.prune("dense", 0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))
    assert run.masks.is_dense
    with pytest.raises(StageError, match="prunes nothing"):
        run.prune("unstructured", 0.5)
