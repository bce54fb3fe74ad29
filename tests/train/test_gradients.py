"""Fisher gradients against one float64 pass for each mini-batch, and what they must leave alone."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bert import Toy, batches_of, data_of, encoder, model_of
from torch import Tensor, nn

from obert_sweeps.schema import StageError
from obert_sweeps.task.heads import Batch
from obert_sweeps.train import gradients as module
from obert_sweeps.train.forward import Setup, inputs
from obert_sweeps.train.gradients import GradientSource
from obert_sweeps.train.grouped import GroupedGradients
from obert_sweeps.worker_group import ALONE, WorkerGroup

CPU = torch.device("cpu")
HEADS = ["classification", "regression", "span", "mlm"]
BYTES_A_TOKEN = 4 * 2 * (4 * 64 + 2 * 96)  # of tiny BERT's layers, two of each


class Worker(WorkerGroup):
    """One of several that are not there: who asks them for anything is wrong."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size

    def __getattribute__(self, name: str) -> Any:
        assert name in ("rank", "size", "__class__", "__dict__"), f"{name} was called"
        return super().__getattribute__(name)


def source(task: Toy, model: Any, seed: int = 3, **more: Any) -> GradientSource:
    more.setdefault("layers", encoder().prunable(model))
    setup = Setup(CPU, group=more.pop("group", ALONE))
    return GradientSource(model, data=data_of(task), setup=setup, seed=seed, **more)


def drawn(
    given: GradientSource, count: int, batch_size: int, **more: Any
) -> list[dict[str, Tensor]]:
    """By mini-batch; a tensor that is drawn is valid until the next one."""
    found: dict[str, list[Tensor]] = {}
    for name, gradients in given(count, batch_size, **more):
        assert gradients.dtype == torch.float32
        found.setdefault(name, []).extend(gradients.clone())
    return [dict(zip(found, one, strict=True)) for one in zip(*found.values(), strict=True)]


def collated(task: Toy) -> list[Batch]:
    """The mini-batches that are made from now on."""
    seen: list[Batch] = []
    collate = task.collate

    def collate_and_keep(*args: Any) -> Batch:
        seen.append(collate(*args))
        return seen[-1]

    task.collate = collate_and_keep  # type: ignore[method-assign]
    return seen


def one_pass(model: nn.Module, task: Toy, batch: Batch, names: list[str]) -> dict[str, Tensor]:
    """The oracle: autograd in float64 on a mini-batch as it was collated."""
    model = copy.deepcopy(model).double().eval().requires_grad_(True)
    batch = {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}
    task.head.loss(model(**inputs(batch)), batch).backward()
    return {name: model.get_submodule(name).weight.grad for name in names}  # type: ignore[misc]


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, gradient in found.items():
        error = (gradient - expected[name]).norm()
        # In float32 a layer's gradient is as exact as what flows through it, not as its own size.
        assert error <= 2e-5 * max(float(e.norm()) for e in expected.values()), name


@pytest.mark.parametrize("head", HEADS)
@given(
    rows=st.integers(1, 20),
    batch_size=st.integers(1, 7),
    count=st.integers(1, 7),
    micro_batch=st.none() | st.integers(1, 5),
    pass_tokens=st.integers(1, 120),
    held_tokens=st.integers(1, 300),
    chosen=st.sets(st.integers(0, 11), min_size=1),
    frozen=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=12, deadline=None)
def test_they_are_those_of_the_mean_task_loss(
    head: str,
    rows: int,
    batch_size: int,
    count: int,
    micro_batch: int | None,
    pass_tokens: int,
    held_tokens: int,
    chosen: set[int],
    frozen: bool,
    seed: int,
) -> None:
    """However mini-batches are grouped and cut; epochs may end with smaller ones."""
    task = Toy(head=head, rows=rows)
    model = model_of(task, dropout=0.3)
    model.requires_grad_(not frozen)
    given_ = source(task, model, seed, micro_batch=micro_batch)
    names = [name for i, name in enumerate(given_.layers) if i in chosen]
    seen = collated(task)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module._PASS_TOKENS, "cpu", pass_tokens)
        patch.setitem(module._HELD_BYTES, "cpu", held_tokens * BYTES_A_TOKEN)
        found = drawn(given_, count, batch_size, layers=names)
    whole, rest = divmod(rows, batch_size)
    epoch = [batch_size] * whole + [rest] * (rest > 0)
    assert [len(batch["input_ids"]) for batch in seen] == (epoch * count)[:count]
    assert len(found) == count
    for gradients, batch in zip(found, seen, strict=True):
        assert_equal(gradients, one_pass(model, task, batch, names))


def passes_of(model: nn.Module) -> list[Tensor]:
    """The attention masks of the model's passes from now on."""
    seen: list[Tensor] = []
    model.register_forward_pre_hook(
        lambda _, __, given: seen.append(given["attention_mask"]), with_kwargs=True
    )
    return seen


def test_mini_batches_share_passes_and_rows_of_one_length_stand_together() -> None:
    task = Toy(rows=60)
    model = model_of(task)
    passes = passes_of(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module._PASS_TOKENS, "cpu", 60 * 12)
        drawn(source(task, model), 10, 6)
    assert [len(mask) for mask in passes] == [60]
    del passes[:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module._PASS_TOKENS, "cpu", 100)
        drawn(source(task, model), 10, 6)
    assert sum(len(mask) for mask in passes) == 60
    assert all(mask.numel() <= 100 for mask in passes)
    widths = [(int(mask.sum(1).min()), mask.shape[1]) for mask in passes]
    assert all(shortest >= longest for (shortest, _), (_, longest) in pairwise(widths))
    del passes[:]
    drawn(source(task, model, micro_batch=4), 10, 6)
    assert [len(mask) for mask in passes] == [4] * 15


def test_as_many_mini_batches_at_a_time_as_memory_holds() -> None:
    """A token of a layer weighs its input and its output gradient in float32."""
    task = Toy(rows=40)
    model = model_of(task)
    given_ = source(task, model)
    first, *_, last = given_.layers
    seen = collated(task)
    drawn(given_, 10, 4)
    lengths = [int(batch["attention_mask"].sum()) for batch in seen]
    for names, bytes_a_token in (([first], 4 * 64), ([first, last], 4 * (64 + 96))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(module._HELD_BYTES, "cpu", 100 * bytes_a_token)
            sizes = [len(g) for name, g in given_(10, 4, layers=names) if name == first]
        assert sum(sizes) == 10 and 1 < len(sizes) < 10
        begin = 0
        for size in sizes:
            assert size == 1 or sum(lengths[begin : begin + size]) <= 100
            begin += size
            assert begin == 10 or sum(lengths[begin - size : begin + 1]) > 100
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "AT_ONCE", 3)
        assert [len(g) for _, g in given_(10, 4, layers=[first])] == [3, 3, 3, 1]


@given(
    size=st.integers(1, 4),
    count=st.integers(1, 9),
    held_tokens=st.integers(1, 150),
    head=st.sampled_from(["classification", "mlm"]),
)
@settings(max_examples=12, deadline=None)
def test_workers_take_turns_and_yield_alike(
    size: int, count: int, held_tokens: int, head: str
) -> None:
    """Worker r of n has mini-batches r, r + n, …; zeros where there are none for all."""
    task = Toy(head=head, rows=9)
    model = model_of(task)
    alone = drawn(source(task, model), count, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module._HELD_BYTES, "cpu", held_tokens * BYTES_A_TOKEN)
        workers = [source(task, model, group=Worker(rank, size)) for rank in range(size)]
        shapes = [[(name, g.shape) for name, g in worker(count, 4)] for worker in workers]
        shares = [drawn(worker, count, 4) for worker in workers]
    assert shapes == shapes[:1] * size
    assert all(len(share) == -(-count // size) for share in shares)
    for step in range(size * len(shares[0])):
        turn, rank = divmod(step, size)
        if step < count:
            assert_equal(shares[rank][turn], alone[step])
        else:
            assert all(bool((g == 0).all()) for g in shares[rank][turn].values())


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
    trained = batches_of(task, 4, seed=3)(0)["input_ids"]
    seen = collated(task)
    drawn(first, 1, 4)  # nor is it the order of training
    assert not torch.equal(seen[0]["input_ids"], trained)


@pytest.mark.parametrize("trained", [True, False])
def test_nothing_is_differentiated_below_the_lowest_layer_asked_for(trained: bool) -> None:
    task = Toy(rows=30)
    model = model_of(task).requires_grad_(trained)
    given_ = source(task, model)
    chosen = [name for name in given_.layers if ".1." in name][2:]  # of two layers, the upper
    carried: dict[str, bool] = {}
    for name in ("bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1"):

        def look(_: Any, __: Any, output: Any, name: str = name) -> None:
            tensor = output if isinstance(output, Tensor) else output[0]
            carried[name] = tensor.requires_grad

        model.get_submodule(name).register_forward_hook(look)
    drawn(given_, 2, 4, layers=chosen)
    assert list(carried.values()) == [False, False, True]
    assert all(p.requires_grad == trained for p in model.parameters())


@pytest.mark.parametrize("held_tokens", [1, 200, 10**6])
def test_no_more_is_held_than_a_pruning_step_is_told(
    held_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._HELD_BYTES, "cpu", held_tokens * BYTES_A_TOKEN)
    monkeypatch.setitem(module._PASS_TOKENS, "cpu", 60)
    found: list[int] = []

    class Watched(GroupedGradients):
        def take(self, name: str, weight: Tensor) -> Tensor:
            uses = [use for one, _, _ in self._passes for same in one.values() for use in same]
            held = [tensor for use in uses for tensor in use]
            gradients = super().take(name, weight)
            memory = [tensor.untyped_storage() for tensor in (*held, *self._buffers.values())]
            total = sum({m.data_ptr(): m.nbytes() for m in memory}.values())
            found.append(total - gradients.nbytes)
            return gradients

    monkeypatch.setattr(module, "GroupedGradients", Watched)
    task = Toy(rows=64)
    given = source(task, model_of(task))
    for _ in given(40, 4):
        pass
    assert given.held(4) / 3 < max(found) <= given.held(4)


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
    with torch.no_grad():
        iterator = given(3, 4)
        for _ in range(stop_at):
            _, gradient = next(iterator)
            assert not model.training and not torch.is_grad_enabled()
            assert not gradient.requires_grad and bool((gradient != 0).any())
            assert not frozen.requires_grad
            torch.rand(3)  # whoever draws may use random numbers
        iterator.close()  # type: ignore[attr-defined]
    assert model.training and not frozen.requires_grad
    assert sum(p.requires_grad for p in model.parameters()) == len(list(model.parameters())) - 1
    assert torch.equal(torch.get_rng_state(), before)
    assert all(bool((p.grad == 7.0).all()) for p in model.parameters())  # type: ignore[union-attr]
    assert not any(layer._forward_hooks for layer in given.layers.values())


def test_a_caller_s_autocast_does_not_reach_them() -> None:
    task = Toy(rows=10)
    model = model_of(task)
    wanted = drawn(source(task, model), 2, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = drawn(source(task, model), 2, 4)
    for gradients, expected in zip(found, wanted, strict=True):
        assert all(torch.equal(gradients[name], expected[name]) for name in expected)


@pytest.mark.parametrize("empty", [{0}, {1}, {0, 1, 2}])
def test_a_batch_without_masked_tokens_gives_zeros(empty: set[int]) -> None:
    """And leaves those it shares passes with alone."""
    task = Toy(head="mlm", rows=12)
    model = model_of(task)
    collate, steps = task.collate, iter(range(3))

    def unmasked(*given: Any) -> Batch:
        batch = collate(*given)
        if next(steps) in empty:
            batch["labels"] = torch.full_like(batch["labels"], -100)
        return batch

    task.collate = unmasked  # type: ignore[method-assign]
    seen = collated(task)
    found = drawn(source(task, model), 3, 4)
    for step, (gradients, batch) in enumerate(zip(found, seen, strict=True)):
        if step in empty:
            assert all(bool((g == 0).all()) for g in gradients.values())
        else:
            assert_equal(gradients, one_pass(model, task, batch, list(gradients)))


def used_again(model: Any) -> Any:
    """The lower layer takes the place of the upper one too."""
    model.bert.encoder.layer[1] = model.bert.encoder.layer[0]
    return model


@pytest.mark.parametrize("head", ["classification", "span"])
def test_a_layer_used_twice_has_the_sum_and_one_that_is_not_zeros(head: str) -> None:
    task = Toy(head=head, rows=20)
    model = used_again(model_of(task))
    twice = {
        name: layer for name, layer in encoder().prunable(model).items() if ".layer.0." in name
    }
    apart = {"apart": nn.Linear(32, 8)}
    seen = collated(task)
    for gradients, batch in zip(
        drawn(source(task, model, layers=twice | apart), 5, 4), seen, strict=True
    ):
        assert gradients["apart"].shape == (8, 32) and bool((gradients.pop("apart") == 0).all())
        assert_equal(gradients, one_pass(model, task, batch, list(twice)))


def test_a_layer_that_does_not_see_tokens_is_refused() -> None:
    task = Toy(rows=10)
    model = model_of(task)
    given_ = source(task, model, layers={"classifier": model.classifier})
    with pytest.raises(StageError, match=r"layer classifier got inputs of shape \(8, 32\)"):
        next(iter(given_(2, 4)))
    assert model.training and not model.classifier._forward_hooks
