"""Gated layers in training: what they leave in the model, in files, and after a restart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gated_layers import Layers, draw
from resumed import whole_and_resumed
from safetensors.torch import load_file
from tiny_bert import Toy, data_of
from tiny_run import CPU, TRAINING, a_run
from tiny_stage import masks, run, stage, weights

from obert_sweeps.method.base import PruneStep
from obert_sweeps.method.gate import GatedMethod
from obert_sweeps.method.l0 import L0
from obert_sweeps.method.movement import Movement
from obert_sweeps.method.soft_movement import SoftMovement
from obert_sweeps.schema import PruningTimes, StageError
from obert_sweeps.sparsity.mask import Masks
from obert_sweeps.sparsity.pattern import pattern_named
from obert_sweeps.train.evaluate import evaluate
from obert_sweeps.train.forward import Setup
from obert_sweeps.train.loop import Run, train
from obert_sweeps.train.state import State

LEVEL = 0.8
TIMES = PruningTimes(start=0.8, end=3.2, until=5, every_steps=1)  # five optimiser steps an epoch
GRADUAL = replace(TRAINING, epochs=5, pruning=TIMES)
METHODS: dict[str, Any] = {
    "movement": lambda: Movement(),
    "soft_movement": lambda: SoftMovement(score_lr=0.2, penalty_weight=2),
    "l0": lambda: L0(score_lr=0.2, penalty_weight=2),
}
TARGETS = {
    "movement": "obert_sweeps.method.movement.Movement",
    "soft_movement": "obert_sweeps.method.soft_movement.SoftMovement",
    "l0": "obert_sweeps.method.l0.L0",
}
each = pytest.mark.parametrize("name", list(METHODS))


def begun(name: str) -> tuple[Run, State]:
    run, state, _ = a_run(GRADUAL, LEVEL, rows=40, method=METHODS[name](), dropout=0.2)
    return run, state


@each
def test_training_reaches_the_level_and_leaves_a_plain_model(name: str) -> None:
    run, state = begun(name)
    names = list(state.model.state_dict())
    assert train(run, state) is None
    assert list(state.model.state_dict()) == names
    total = sum(layer.weight.numel() for layer in run.layers.values())
    zero = Masks.from_zeros(run.layers).sparsity()
    assert round(state.masks.sparsity() * total) == pytest.approx(LEVEL * total, abs=12)
    assert zero == pytest.approx(state.masks.sparsity(), abs=1e-3)
    for layer in run.layers.values():
        x = torch.randn(3, layer.in_features)
        assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
        assert "forward" not in vars(layer)


@each
@pytest.mark.parametrize("at", [2, 12, 24])
def test_a_saved_state_goes_on_bit_for_bit(name: str, tmp_path: Path, at: int) -> None:
    whole_and_resumed(lambda: begun(name), at, tmp_path)


@each
def test_a_state_saved_after_the_last_pruning_step_is_plain_when_loaded(
    name: str, tmp_path: Path
) -> None:
    run, state = begun(name)
    train(run, state)
    state.save(tmp_path, "id")
    run, again = begun(name)
    assert all("forward" in vars(layer) for layer in run.layers.values())
    again.load(tmp_path, "id")
    assert not any("forward" in vars(layer) for layer in run.layers.values())
    assert evaluate(state.model, data_of(Toy()), Setup(CPU)) == evaluate(
        again.model, data_of(Toy()), Setup(CPU)
    )
    assert again.method.penalty() is None


@each
def test_the_last_pruning_step_leaves_what_the_gates_had_made_of_the_weights(name: str) -> None:
    """At the level that the method has come to itself, settling changes no output."""
    scores = draw(9, (20, 30), (10, 20))
    run = Layers(METHODS[name](), scores)
    level = {"movement": 0.5}.get(name, 1.0)
    run.prune(level, target=level)
    for layer in run.layers.values():
        layer.eval()
    gates = run.gates()
    shut = sum(int((gate == 0).sum()) for gate in gates) / 800
    x = torch.randn(7, 30, dtype=torch.float64)
    before = run.layers["layer0"](x)
    run.prune(shut, final=True, target=shut)
    assert 0 < shut < 1 and run.masks.sparsity() == pytest.approx(shut)
    torch.testing.assert_close(run.layers["layer0"](x), before)


@each
def test_evaluation_is_the_same_each_time(name: str) -> None:
    run, state = begun(name)
    run.times.steps = 12
    train(run, state)
    assert state.masks.is_dense
    first, second = (evaluate(state.model, data_of(Toy()), Setup(CPU)) for _ in (0, 1))
    assert first == second


@each
def test_a_stage_saves_the_names_of_a_plain_model_and_keeps_embeddings(
    name: str, tmp_path: Path
) -> None:
    run(tmp_path, stage("dense"))
    pruned = stage(
        name,
        {"start": "dense"},
        method={"_target_": TARGETS[name]},
        sparsity={"pattern": "unstructured", "level": LEVEL},
        freeze=["embeddings"],
        pruning={"start": 0, "end": 1, "until": 2, "every_steps": 1},
    )
    result = run(tmp_path, pruned)
    assert result["sparsity"]["overall"] == pytest.approx(LEVEL, abs=1e-3)
    before, after = weights(tmp_path, "dense"), weights(tmp_path, name)
    assert before.keys() == after.keys()
    same = {key for key in before if torch.equal(before[key], after[key])}
    assert same == {key for key in before if ".embeddings." in key}
    for layer, keep in masks(tmp_path, name).items():
        assert not after[f"{layer}.weight"][~keep].any()
    (file,) = (tmp_path / f"stages/{name}/model").glob("model.safetensors")
    assert not any("score" in key for key in load_file(file))


@each
def test_scores_that_no_training_has_moved_are_refused(name: str) -> None:
    run, state = begun(name)
    pattern = pattern_named("unstructured")
    gradients: Any = None
    step = PruneStep(run.layers, state.masks, pattern, LEVEL, final=True, gradients=gradients)
    with pytest.raises(StageError, match="no score has moved"):
        state.method.prune(step)


@each
def test_a_start_that_is_pruned_already_is_refused(name: str) -> None:
    run, _, _ = a_run(TRAINING, 0.0)
    layers = run.layers
    keep = {n: torch.rand_like(layer.weight) > 0.5 for n, layer in layers.items()}
    method: GatedMethod = METHODS[name]()
    with pytest.raises(StageError, match="Start from a dense stage"):
        method.attach(layers, Masks(layers, keep))
