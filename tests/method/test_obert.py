"""oBERT's pruning step against a plain float64 transcription of the paper's equations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from obert_sweeps.method.base import PruneStep
from obert_sweeps.method.magnitude import Magnitude
from obert_sweeps.method.obert import OBert
from obert_sweeps.schema import RequestError, StageError
from obert_sweeps.sparsity.mask import Masks
from obert_sweeps.sparsity.pattern import pattern_named

DAMP, M = 1e-5, 40
GROUPS = {"unstructured": (1, [(0,)]), "block4": (4, [(0, 1, 2, 3)])}
GROUPS["2of4"] = (4, list(combinations(range(4), 2)))


def layers(seed: int = 0) -> dict[str, nn.Linear]:
    torch.manual_seed(seed)
    return {"a": nn.Linear(12, 5), "b": nn.Linear(8, 4)}


def fixed_gradients(model: dict[str, nn.Linear], scale: float = 0.05) -> list[dict]:
    """The same gradients at every call, whatever the weights."""
    rng = np.random.default_rng(9)
    mix = {n: rng.standard_normal((m.weight.numel(),) * 2) for n, m in model.items()}
    return [
        {
            n: torch.tensor(scale * mix[n] @ rng.standard_normal(len(mix[n])))
            .float()
            .view(m.weight.shape)
            for n, m in model.items()
        }
        for _ in range(M)
    ]


Source = Callable[..., Iterator[dict[str, torch.Tensor]]]


def layer_by_layer(source: Source) -> Callable[..., Iterator[tuple[str, torch.Tensor]]]:
    """The protocol's gradients of a source that gives one mini-batch's at a time."""

    def gradients(
        count: int, batch_size: int, *, draw: int = 0, layers: Any = None
    ) -> Iterator[tuple[str, torch.Tensor]]:
        drawn = source(count, batch_size)
        while few := list(islice(drawn, 10)):
            for name in few[0]:
                if layers is None or name in layers:
                    yield name, torch.stack([found[name] for found in few])

    return gradients


def prune_step(
    model: dict[str, nn.Linear],
    masks: Masks,
    pattern: str,
    level: float,
    gradients: Source | None = None,
) -> PruneStep:
    held = fixed_gradients(model)
    given = layer_by_layer(gradients or (lambda count, size: iter(held[:count])))
    return PruneStep(model, masks, pattern_named(pattern), level, True, given)


def by_the_book(
    model: dict[str, nn.Linear], keep: dict[str, torch.Tensor], pattern: str, level: float, b: int
) -> dict[str, np.ndarray]:
    """float64, dense matrices, loops: scores, choice, simultaneous update, zeros."""
    size, candidates = GROUPS[pattern]
    inverses, weights, alive = {}, {}, {}
    grads = fixed_gradients(model)
    for name, layer in model.items():
        mask = keep[name].numpy().ravel()
        g = np.stack([x[name].double().numpy().ravel() for x in grads]) * mask
        fisher = g.T @ g / M
        d = mask.size
        same = np.arange(d)[:, None] // b == np.arange(d)[None, :] // b
        inverses[name] = np.linalg.inv(np.where(same, fisher, 0.0) + DAMP * np.eye(d))
        weights[name] = layer.weight.detach().double().numpy().ravel()
        alive[name] = mask

    def cost(name: str, q: list[int]) -> float:
        w = weights[name][q]
        return 0.5 * w @ np.linalg.solve(inverses[name][np.ix_(q, q)], w)

    ranked = []
    chosen: dict[str, list[list[int]]] = {n: [] for n in model}
    for name in model:
        for start in range(0, alive[name].size, size):
            sets = [[start + i for i in c] for c in candidates]
            costs = [cost(name, q) for q in sets]
            if len(sets) > 1:
                chosen[name].append(sets[int(np.argmin(costs))])
            elif alive[name][start]:
                ranked.append((costs[0], name, sets[0]))
            else:
                chosen[name].append(sets[0])
    if pattern != "2of4":
        total = sum(a.size // size for a in alive.values())
        missing = round(level * total) - sum(len(c) for c in chosen.values())
        for _, name, q in sorted(ranked, key=lambda r: r[0])[:missing]:
            chosen[name].append(q)
    result = {}
    for name in model:
        v = np.zeros_like(weights[name])
        for q in chosen[name]:
            if alive[name][q].any():
                v[q] = np.linalg.solve(inverses[name][np.ix_(q, q)], weights[name][q])
        new = weights[name] - inverses[name] @ v
        for q in chosen[name]:
            new[q] = 0.0
        result[name] = new.reshape(model[name].weight.shape)
    return result


@pytest.mark.parametrize(
    ("pattern", "level", "b"),
    [
        ("unstructured", 0.55, 10),
        ("unstructured", 0.3, 60),
        ("unstructured", 0.9, 7),
        ("block4", 0.5, 8),
        ("block4", 0.75, 16),
        ("2of4", 0.5, 4),
        ("2of4", 0.5, 24),
    ],
)
def test_a_step_is_the_papers(pattern, level, b):
    model = layers()
    masks = Masks(model)
    expected = by_the_book(model, masks.keep, pattern, level, b)
    OBert(num_grads=M, fisher_block_size=b, damp=DAMP).prune(
        prune_step(model, masks, pattern, level)
    )
    masks.check()
    for name, layer in model.items():
        got = layer.weight.detach().numpy()
        np.testing.assert_array_equal(got == 0, expected[name] == 0)
        np.testing.assert_allclose(got, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("pattern", "b"), [("unstructured", 10), ("block4", 8)])
def test_what_is_pruned_already_neither_counts_nor_moves(pattern, b):
    model = layers(1)
    masks = Masks(model)
    Magnitude().prune(prune_step(model, masks, pattern, 0.4))
    old = masks.keep
    expected = by_the_book(model, old, pattern, 0.7, b)
    OBert(num_grads=M, fisher_block_size=b, damp=DAMP).prune(prune_step(model, masks, pattern, 0.7))
    for name, layer in model.items():
        assert not layer.weight[~old[name]].any()
        np.testing.assert_allclose(layer.weight.detach(), expected[name], rtol=1e-4, atol=1e-6)


def test_recomputations_take_linear_parts_with_new_gradients():
    seen = []
    model = layers()
    masks = Masks(model)
    held = fixed_gradients(model)

    def gradients(count: int, size: int) -> Iterator[dict[str, torch.Tensor]]:
        assert size == 3
        seen.append(masks.sparsity())
        yield from held[:count]

    method = OBert(
        num_grads=M, fisher_block_size=10, damp=DAMP, num_recomputations=4, grad_batch_size=3
    )
    method.prune(prune_step(model, masks, "unstructured", 0.8, gradients))
    assert seen == pytest.approx([0.0, 0.2, 0.4, 0.6], abs=1 / 92)
    assert masks.sparsity() * 92 == pytest.approx(round(0.8 * 92))

    stepwise = layers()
    other = Masks(stepwise)
    single = OBert(num_grads=M, fisher_block_size=10, damp=DAMP)
    for level in (0.2, 0.4, 0.6000000000000001, 0.8):
        single.prune(prune_step(stepwise, other, "unstructured", level))
    for name in model:
        assert torch.equal(model[name].weight, stepwise[name].weight)


def test_recomputations_begin_at_what_is_pruned_already():
    seen = []
    model = layers()
    masks = Masks(model)
    Magnitude().prune(prune_step(model, masks, "unstructured", 0.4))
    held = fixed_gradients(model)

    def gradients(count: int, size: int) -> Iterator[dict[str, torch.Tensor]]:
        seen.append(masks.sparsity())
        yield from held[:count]

    method = OBert(num_grads=M, fisher_block_size=10, damp=DAMP, num_recomputations=4)
    method.prune(prune_step(model, masks, "unstructured", 0.8, gradients))
    assert seen == pytest.approx([0.4, 0.5, 0.6, 0.7], abs=1 / 92)


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("fails_at", [0, 7, M - 1])
def test_a_step_that_fails_leaves_everything_as_it_was(rounds, fails_at):
    model = layers()
    masks = Masks(model)
    before = {n: m.weight.detach().clone() for n, m in model.items()}
    held = fixed_gradients(model)
    calls = 0

    def gradients(count: int, size: int) -> Iterator[dict[str, torch.Tensor]]:
        nonlocal calls
        calls += 1
        for i, grads in enumerate(held[:count]):
            if calls == rounds and i == fails_at:
                raise KeyboardInterrupt
            yield grads

    method = OBert(num_grads=M, fisher_block_size=10, damp=DAMP, num_recomputations=rounds)
    with pytest.raises(KeyboardInterrupt):
        method.prune(prune_step(model, masks, "unstructured", 0.8, gradients))
    assert calls == rounds and masks.is_dense
    assert all(torch.equal(m.weight, before[n]) for n, m in model.items())


def added_loss(method: Magnitude | OBert, pattern: str, correlation: float) -> float:
    """Loss that pruning to 50 % adds to a least-squares fit: there the loss is the quadratic.

    Inputs of unequal size, correlated by so much; one row of gradients is one Fisher block.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    mix = np.eye(24) + correlation * rng.standard_normal((24, 24))
    x = torch.tensor(rng.standard_normal((4000, 24)) @ mix * rng.uniform(0.2, 3, 24)).float()
    student = nn.Linear(24, 3, bias=False)
    with torch.no_grad():
        y = student(x) + torch.randn(4000, 3)
        dense = nn.functional.mse_loss(student(x), y)

    def gradients(count: int, size: int) -> Iterator[dict[str, torch.Tensor]]:
        for i in range(count):
            rows = slice(8 * i, 8 * i + 8)
            loss = nn.functional.mse_loss(student(x[rows]), y[rows])
            yield {"w": torch.autograd.grad(loss, student.weight)[0]}

    method.prune(prune_step({"w": student}, Masks({"w": student}), pattern, 0.5, gradients))
    with torch.no_grad():
        return float(nn.functional.mse_loss(student(x), y) - dense)


@pytest.mark.parametrize("pattern", ["unstructured", "block4", "2of4"])
def test_it_beats_magnitude_where_curvature_is_unequal(pattern):
    obert = added_loss(OBert(num_grads=500, fisher_block_size=24), pattern, 0.1)
    assert obert < 0.75 * added_loss(Magnitude(), pattern, 0.1)


def test_recomputation_mends_what_a_large_step_ignores():
    """Sets that go together are scored and compensated as if alone: strong correlation shows it."""
    losses = {
        rounds: added_loss(
            OBert(num_grads=500, fisher_block_size=24, num_recomputations=rounds),
            "unstructured",
            0.3,
        )
        for rounds in (1, 4, 16)
    }
    assert losses[16] < losses[4] < losses[1]
    assert losses[16] < 0.3 * added_loss(Magnitude(), "unstructured", 0.3)


def test_the_fisher_block_size_follows_the_pattern():
    method = OBert()
    sizes = {p: method._block_size(pattern_named(p)) for p in GROUPS}
    assert sizes == {"unstructured": 50, "block4": 32, "2of4": 48}


@pytest.mark.parametrize(
    ("size", "said"),
    [(50, "Set it to 48 or 52"), (2, "Set it to 4 or 8"), ({"unstructured": 50}, "no entry")],
)
def test_a_fisher_block_that_cuts_groups_is_refused_with_a_way_out(size, said):
    model = layers()
    with pytest.raises(StageError, match=said):
        OBert(fisher_block_size=size).prune(prune_step(model, Masks(model), "block4", 0.5))


def test_too_few_gradients_are_an_error():
    model = layers()
    method = OBert(num_grads=M + 1, fisher_block_size=4)
    with pytest.raises(StageError, match=f"{M} gradients came of the {M + 1}"):
        method.prune(prune_step(model, Masks(model), "unstructured", 0.5))


def test_recomputation_has_no_meaning_for_n_of_m():
    model = layers()
    method = OBert(num_grads=M, fisher_block_size=4, num_recomputations=2)
    with pytest.raises(StageError, match="Set it to 1"):
        method.prune(prune_step(model, Masks(model), "2of4", 0.5))


@pytest.mark.parametrize(
    "values",
    [
        {"num_grads": 0},
        {"damp": 0.0},
        {"grad_batch_size": -1},
        {"num_recomputations": 0},
        {"fisher_block_size": 0},
        {"fisher_block_size": {"block4": 0}},
        {"scope": "layer"},
    ],
)
def test_impossible_values_are_refused(values):
    (key,) = values
    with pytest.raises(RequestError, match=f"method.{key}"):
        OBert(**values)
