"""Fisher gradients against a loop by hand, and what they must leave alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_bert import Toy, data_of, encoder, model_of

from obert_sweeps.train.batches import inputs
from obert_sweeps.train.gradients import GradientSource

CPU = torch.device("cpu")


def source(task: Toy, model: Any, seed: int = 3, **more: Any) -> GradientSource:
    layers = encoder().prunable(model)
    return GradientSource(model, layers, task, data_of(task), device=CPU, seed=seed, **more)


def drawn(
    given: GradientSource, count: int, batch_size: int, **more: Any
) -> list[dict[str, torch.Tensor]]:
    """By mini-batch; a tensor that is drawn is valid until the next one."""
    found: dict[str, list[torch.Tensor]] = {}
    for name, gradients in given(count, batch_size, **more):
        found.setdefault(name, []).extend(gradients.clone())
    return [dict(zip(found, one, strict=True)) for one in zip(*found.values(), strict=True)]


@pytest.mark.parametrize("head", ["classification", "span", "mlm"])
@pytest.mark.parametrize("micro_batch", [None, 2])
def test_they_are_those_of_the_mean_task_loss(head: str, micro_batch: int | None) -> None:
    """By hand: one row at a time is weighed by what the loss is a mean over."""
    task = Toy(head=head, rows=10)
    model = model_of(task, dropout=0.3)
    given = source(task, model, micro_batch=micro_batch)
    seen: list[dict[str, torch.Tensor]] = []
    collate = task.collate
    task.collate = lambda *a: seen.append(collate(*a)) or seen[-1]  # type: ignore[method-assign, func-returns-value]
    found = drawn(given, 6, 4)
    assert len(found) == len(seen) == 6
    assert [len(batch["input_ids"]) for batch in seen] == [4, 4, 2, 4, 4, 2]  # endless: two epochs
    model.eval()
    for gradient, batch in zip(found, seen, strict=True):
        model.zero_grad()
        task.loss(model(**inputs(batch)), batch).backward()
        for name, layer in given.layers.items():
            torch.testing.assert_close(gradient[name], layer.weight.grad, rtol=1e-3, atol=1e-6)
            assert gradient[name].dtype == torch.float32


def test_order_is_fixed_by_the_seed_and_new_in_each_draw() -> None:
    task = Toy(rows=30)
    model = model_of(task)
    first, again, other = source(task, model), source(task, model), source(task, model, seed=4)
    name = next(iter(first.layers))
    a, b, c = (drawn(s, 3, 4) for s in (first, again, other))
    assert all(torch.equal(x[name], y[name]) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a[0][name], c[0][name])
    assert torch.equal(a[0][name], drawn(first, 3, 4)[0][name])
    assert not torch.equal(a[0][name], drawn(first, 3, 4, draw=1)[0][name])


def test_only_the_layers_asked_for_are_drawn() -> None:
    task = Toy(rows=30)
    model = model_of(task)
    given = source(task, model)
    chosen = list(given.layers)[1:3]
    some, whole = drawn(given, 2, 4, layers=chosen), drawn(given, 2, 4)
    assert [list(g) for g in some] == [chosen] * 2
    for part, full in zip(some, whole, strict=True):
        for name in chosen:
            torch.testing.assert_close(part[name], full[name], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("stop_at", [1, 3])
def test_mode_gradients_and_random_states_are_left_alone(stop_at: int) -> None:
    """Also when the one who draws stops early."""
    task = Toy(rows=10)
    model = model_of(task, dropout=0.3)
    given = source(task, model)
    frozen = next(iter(given.layers.values())).weight.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    before = torch.get_rng_state()
    iterator = given(3, 4)
    for _ in range(stop_at):
        _, gradient = next(iterator)
        assert not model.training
        assert bool((gradient != 0).any())
        torch.rand(3)  # whoever draws may use random numbers
    iterator.close()  # type: ignore[attr-defined]
    assert model.training and not frozen.requires_grad
    assert torch.equal(torch.get_rng_state(), before)
    assert all(bool((p.grad == 7.0).all()) for p in model.parameters())  # type: ignore[union-attr]


def test_a_batch_without_masked_tokens_gives_zeros() -> None:
    task = Toy(head="mlm", rows=4)
    collate = task.collate

    def unmasked(*given: Any) -> dict[str, torch.Tensor]:
        batch = collate(*given)
        return {**batch, "labels": torch.full_like(batch["labels"], -100)}

    task.collate = unmasked  # type: ignore[method-assign]
    (gradient,) = drawn(source(task, model_of(task)), 1, 4)
    assert all(bool((g == 0).all()) for g in gradient.values())
