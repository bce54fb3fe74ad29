"""Random pruning against what a lot must look like; the shared contract does the rest."""

from __future__ import annotations

import math

import torch
from torch import nn

from obert_sweeps.method.base import PruneStep
from obert_sweeps.method.random import Random
from obert_sweeps.sparsity.mask import Masks
from obert_sweeps.sparsity.pattern import pattern_named


def zeroed(seed: int) -> dict[str, torch.Tensor]:
    layers = {"large": nn.Linear(100, 80), "small": nn.Linear(100, 80)}
    with torch.no_grad():
        layers["small"].weight.mul_(1e-3)  # a lot does not look at magnitudes
    masks = Masks(layers)
    step = PruneStep(layers, masks, pattern_named("unstructured"), 0.5, True, None, seed)  # type: ignore[arg-type]
    Random().prune(step)
    return {name: layer.weight == 0 for name, layer in layers.items()}


def test_each_layer_loses_its_share_within_the_noise_of_a_lot():
    gone = zeroed(seed=1)
    assert sum(int(g.sum()) for g in gone.values()) == 8000
    deviation = math.sqrt(8000 * 0.5 * 0.5 / 2)  # hypergeometric: half of 16,000 drawn
    assert all(abs(int(g.sum()) - 4000) < 4 * deviation for g in gone.values())


def test_the_seed_is_the_lot():
    first, again, other = zeroed(1), zeroed(1), zeroed(2)
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not all(torch.equal(first[n], other[n]) for n in first)
