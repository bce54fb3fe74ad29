"""The rounds and shares of an OBS step change nothing but memory and time."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from obs_budget import budget_for
from thread_group import together
from torch import nn

from obert_sweeps.method.base import PruneStep
from obert_sweeps.method.obert import OBert
from obert_sweeps.method.obs import surgery
from obert_sweeps.method.obs.scratch import Scratch
from obert_sweeps.schema import StageError, WorkerLost
from obert_sweeps.sparsity.mask import Masks
from obert_sweeps.sparsity.pattern import pattern_named
from obert_sweeps.worker_group import ALONE, WorkerGroup

SHAPES = {"a": (10, 24), "b": (9, 16), "c": (5, 8)}
M = 24
CASES = [("unstructured", 0.6, 10), ("block4", 0.5, 8), ("2of4", 0.5, 12)]
LEVELS = {pattern: level for pattern, level, _ in CASES}


class Source:
    """Gradients that depend on the draw, and on what is pruned; some workers' share of them.

    They come in a buffer that is spoilt when the next is drawn.
    """

    def __init__(self, model: dict[str, nn.Linear], group: WorkerGroup, at_once: int = 4) -> None:
        self.model, self.group, self.at_once = model, group, at_once
        self.asked: list[tuple[int, tuple[str, ...]]] = []
        self.given = 0
        self.fails_at = -1

    def __call__(
        self, count: int, batch_size: int, *, draw: int = 0, layers: Any = None
    ) -> Iterator[tuple[str, torch.Tensor]]:
        self.asked.append((draw, tuple(layers)))
        numbers = range(self.group.rank, count, self.group.size)
        for first in range(0, len(numbers), self.at_once):
            for name in SHAPES:
                if name not in layers:
                    continue
                scale = 1 + self.model[name].weight.detach().abs().mean()
                few = numbers[first : first + self.at_once]
                buffer = scale * torch.stack([gradient(name, draw, i) for i in few])
                self.given += 1
                if self.given == self.fails_at:
                    raise KeyboardInterrupt
                yield name, buffer
                buffer.fill_(torch.nan)


@cache
def gradient(name: str, draw: int, number: int) -> torch.Tensor:
    rng = np.random.default_rng([ord(name), draw, number])
    out, inputs = SHAPES[name]
    x = rng.standard_normal((3, inputs)) * np.linspace(0.2, 2, inputs)
    return torch.tensor(0.1 * rng.standard_normal((3, out)).T @ x).float()


class Pruned:
    """A model, and what one pruning step makes of it."""

    def __init__(self, pattern: str, group: WorkerGroup = ALONE, at_once: int = 4, **how: Any):
        draw = torch.Generator().manual_seed(3)  # workers are threads, and the global one is shared
        self.model = {name: nn.Linear(i, o) for name, (o, i) in SHAPES.items()}
        for layer in self.model.values():
            nn.init.uniform_(layer.weight, -0.3, 0.3, generator=draw)
        self.masks = Masks(self.model)
        self.source = Source(self.model, group, at_once)
        self.lines: list[str] = []
        self.group = group
        self.step = PruneStep(
            self.model,
            self.masks,
            pattern_named(pattern),
            LEVELS[pattern],
            final=True,
            gradients=self.source,
            note=self.lines.append,
            group=group,
            **how,
        )

    def start_at(self, level: float) -> Pruned:
        """Some weights are pruned already."""
        if not level:
            return self
        cost = {n: m.weight.detach().abs() for n, m in self.model.items()}
        pattern = self.step.pattern
        grouped = {n: pattern.costs(c) for n, c in cost.items()}
        self.masks.replace(pattern.select(grouped, level))
        self.masks.apply()
        return self

    def by(self, method: OBert) -> Pruned:
        method.prune(self.step)
        self.masks.check()
        return self

    def state(self) -> dict[str, torch.Tensor]:
        weights = {f"{n}.weight": m.weight.detach().clone() for n, m in self.model.items()}
        return weights | {f"{n}.keep": k.clone() for n, k in self.masks.keep.items()}


def method_of(block_size: int, **values: Any) -> OBert:
    return OBert(num_grads=M, fisher_block_size=block_size, damp=1e-5, **values)


def state_after(
    group: WorkerGroup, pattern: str, block_size: int, begin: float = 0.0, **how: Any
) -> dict[str, torch.Tensor]:
    """What one worker has after a step; for threads and for processes."""
    return Pruned(pattern, group, **how).start_at(begin).by(method_of(block_size)).state()


def memory_for(pattern: str, block_size: int, scope: str, blocks: int, workers: int = 1) -> int:
    sizes = {name: o * i for name, (o, i) in SHAPES.items()}
    return budget_for(blocks, sizes, block_size, pattern, scope, workers)


def assert_same(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, value in expected.items():
        if value.dtype == torch.bool:
            assert torch.equal(got[name], value), name
        torch.testing.assert_close(got[name], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("scope", "update"),
    [("global", "simultaneous"), ("tensor", "simultaneous"), ("global", "joint")],
)
@pytest.mark.parametrize(("pattern", "level", "block_size"), CASES)
def test_any_plan_gives_the_same_weights_and_masks(
    pattern: str, level: float, block_size: int, update: Any, scope: Any, tmp_path: Path
) -> None:
    method = method_of(block_size, scope=scope, update=update)
    begin = 0.0 if pattern == "2of4" else 0.2
    whole = Pruned(pattern).start_at(begin)
    expected = whole.by(method).state()
    assert len(whole.source.asked) == 1
    for blocks in (25, 6):
        memory = memory_for(pattern, block_size, scope, blocks)
        for scratch in (None, tmp_path):
            run = Pruned(pattern, memory=memory, scratch=scratch).start_at(begin)
            assert_same(run.by(method).state(), expected)
            assert len(run.lines) == 1
            if blocks < 25:
                assert len(run.source.asked) > 2
    assert list(tmp_path.iterdir()) == []


def test_only_layers_of_a_round_are_drawn_and_as_often_as_said(tmp_path: Path) -> None:
    """Blocks of 10: a has 24, b 15 and c 4; 20 fit, so a is cut in two and b and c go together."""
    memory = memory_for("unstructured", 10, "global", 20)
    asked = {}
    for scratch in (None, tmp_path):
        run = Pruned("unstructured", memory=memory, scratch=scratch).by(method_of(10))
        asked[scratch] = run.source.asked
        (line,) = run.lines
        assert "in 3 rounds" in line and f"drawn {len(run.source.asked)} times" in line
    once = [(0, ("a",)), (0, ("a",)), (0, ("b", "c"))]
    assert asked[tmp_path] == once
    assert asked[None] == [*once, *once[:2]]  # of the last round the inverses are still there


@pytest.mark.parametrize(("pattern", "scope"), [("2of4", "global"), ("unstructured", "tensor")])
def test_what_is_decided_within_a_round_needs_no_second_pass(pattern: str, scope: Any) -> None:
    block_size = 12
    memory = memory_for(pattern, block_size, scope, 20)  # a, b and c have 20, 12 and 4
    run = Pruned(pattern, memory=memory).by(method_of(block_size, scope=scope))
    assert run.source.asked == [(0, ("a",)), (0, ("b", "c"))]


def test_what_the_gradients_hold_is_left_to_them() -> None:
    memory = memory_for("2of4", 12, "global", 20)
    method = method_of(12, grad_batch_size=5)
    run = Pruned("2of4", memory=memory + 50_000, held=lambda rows: 10_000 * rows).by(method)
    assert run.source.asked == [(0, ("a",)), (0, ("b", "c"))]


def test_recomputations_in_rounds_are_those_in_one(tmp_path: Path) -> None:
    method = method_of(10, num_recomputations=3)
    expected = Pruned("unstructured").by(method)
    assert [draw for draw, _ in expected.source.asked] == [0, 1, 2]
    memory = memory_for("unstructured", 10, "global", 20)
    for scratch in (None, tmp_path):
        run = Pruned("unstructured", memory=memory, scratch=scratch).by(method)
        assert_same(run.state(), expected.state())
        assert len(run.lines) == 1


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("blocks", [100, 4])
@pytest.mark.parametrize(("pattern", "level", "block_size"), CASES)
def test_workers_together_give_what_one_gives(
    pattern: str, level: float, block_size: int, blocks: int, size: int, tmp_path: Path
) -> None:
    begin = 0.0 if pattern == "2of4" else 0.2
    expected = state_after(ALONE, pattern, block_size, begin)
    how = {"memory": memory_for(pattern, block_size, "global", blocks, size), "scratch": tmp_path}
    results = together(lambda g: state_after(g, pattern, block_size, begin, **how), size)
    for result in results:
        assert_close(result, expected)
        assert all(torch.equal(result[n], results[0][n]) for n in expected)  # to the bit


def test_a_layer_may_have_fewer_blocks_than_there_are_workers() -> None:
    expected = state_after(ALONE, "unstructured", 120)  # a, b and c have 2, 2 and 1
    for result in together(lambda g: state_after(g, "unstructured", 120), 3):
        assert_close(result, expected)


def assert_close(got: Any, expected: dict[str, torch.Tensor]) -> None:
    """To rounding: workers add up the same gradients in another order."""
    if isinstance(got, BaseException):
        raise got
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-6)


def test_a_worker_that_fails_does_not_leave_the_others_waiting() -> None:
    before = Pruned("unstructured").state()
    left: dict[int, dict[str, torch.Tensor]] = {}

    def work(group: WorkerGroup) -> None:
        run = Pruned("unstructured", group)
        run.source.fails_at = 5 if group.rank == 1 else -1
        try:
            run.by(method_of(10))
        finally:
            left[group.rank] = run.state()

    results = together(work, 3, seconds=2.0)
    assert isinstance(results[1], KeyboardInterrupt)
    assert isinstance(results[0], WorkerLost) and isinstance(results[2], WorkerLost)
    for state in left.values():
        assert all(torch.equal(state[name], value) for name, value in before.items())


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("scratch", [True, False])
def test_a_failure_anywhere_leaves_weights_masks_and_disk_as_they_were(
    parts: int, scratch: bool, tmp_path: Path
) -> None:
    memory = memory_for("unstructured", 10, "global", 20)
    method = method_of(10, num_recomputations=parts)
    how: dict[str, Any] = {"memory": memory, "scratch": tmp_path if scratch else None}
    total = Pruned("unstructured", **how).by(method).source.given
    for fails_at in range(1, total + 1, total // 7):
        run = Pruned("unstructured", **how).start_at(0.2)
        before = run.state()
        run.source.fails_at = fails_at
        with pytest.raises(KeyboardInterrupt):
            run.by(method)
        assert all(torch.equal(run.state()[name], value) for name, value in before.items())
    assert list(tmp_path.iterdir()) == []
    assert torch.is_grad_enabled()


def test_an_interrupt_while_weights_are_written_is_undone(monkeypatch: Any) -> None:
    run = Pruned("unstructured").start_at(0.2)
    before = run.state()
    writes = 0
    replace = run.masks.replace

    def interrupted(keep: Any) -> None:
        nonlocal writes
        writes += 1
        replace(keep)
        if writes == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(run.masks, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.by(method_of(10))
    assert writes == 2
    assert all(torch.equal(run.state()[name], value) for name, value in before.items())


def test_an_update_that_is_not_finite_is_refused(monkeypatch: Any) -> None:
    monkeypatch.setattr(surgery, "compensated", lambda i, weight, *_: weight * torch.inf)
    run = Pruned("unstructured")
    before = run.state()
    with pytest.raises(StageError, match="layer a is not finite"):
        run.by(method_of(10))
    assert all(torch.equal(run.state()[name], value) for name, value in before.items())


def test_too_little_memory_is_refused_before_a_gradient_is_drawn() -> None:
    run = Pruned("unstructured", memory=1 << 20)
    with pytest.raises(StageError, match="at least .* Set cluster.memory_gb"):
        run.by(method_of(10))
    assert run.source.asked == []


def test_a_disk_without_room_is_refused_before_a_gradient_is_drawn(
    monkeypatch: Any, tmp_path: Path
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(10, 9, 1))
    memory = memory_for("unstructured", 10, "global", 20)
    run = Pruned("unstructured", memory=memory, scratch=tmp_path)
    with pytest.raises(StageError, match="Set cluster.scratch"):
        run.by(method_of(10))
    assert run.source.asked == []


def test_what_waits_on_disk_is_there_for_one_decision_only(
    monkeypatch: Any, tmp_path: Path
) -> None:
    """With scope=tensor each layer that does not fit is a decision of its own."""
    sizes = []
    leave = Scratch.__exit__

    def measured(scratch: Scratch, *error: Any) -> None:
        sizes.append(scratch._file.seek(0, 2))
        leave(scratch, *error)

    monkeypatch.setattr(Scratch, "__exit__", measured)
    memory = memory_for("unstructured", 10, "tensor", 8)
    Pruned("unstructured", memory=memory, scratch=tmp_path).by(method_of(10, scope="tensor"))
    triangle = 8 * 55
    # a is in 3 rounds of 8 blocks, b in 2 of 7 and 8; c has 4. The last of each does not wait.
    assert sizes == [16 * triangle, 7 * triangle]
