"""Two workers train as one would: the same gradients, weights, losses, masks and metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_step import CPU, TRAINING, Penalty, step_of
from tiny_bert import Toy, batches_of, data_of, model_of
from workers import run_workers

from obert_sweeps.schema import Distillation, StageError
from obert_sweeps.train.evaluate import row_logits
from obert_sweeps.train.forward import Setup
from obert_sweeps.train.parallel import GradientSum, check_equal, share_rows
from obert_sweeps.worker_group import ALONE, WorkerGroup


def train(group: WorkerGroup, head: str, hardness: float | None, steps: int) -> tuple[Any, ...]:
    """Weights and losses after so many steps; an epoch is 3 of 9 rows and one of a single row.

    In float64, since Adam makes whole steps of what should be zero and is rounding, as the
    gradient of a key's bias.
    """
    task = Toy(head=head, rows=28)
    model, batches = model_of(task).double(), batches_of(task, 9)
    distill = None if hardness is None else Distillation(hardness, 2.0)
    training = replace(TRAINING, distill=distill, weight_decay=0.01)
    teacher = model_of(task, seed=9).double()
    step = step_of(
        model, task, training, method=Penalty(), teacher=teacher, max_grad_norm=1.0, group=group
    )
    for group_ in step.optimizer.param_groups:
        group_["lr"] = 0.001
    losses = [float(step(batches(i))) for i in range(steps)]
    seen = step.method.seen
    return {**model.state_dict(), "score": step.method.score.detach()}, (losses, seen)


CASES = [("classification", None), ("regression", 0.5), ("span", None), ("mlm", None), ("mlm", 1.0)]


def train_all(group: WorkerGroup, steps: int) -> list[Any]:
    return [train(group, head, hardness, steps) for head, hardness in CASES]


def test_two_and_three_workers_train_as_one_does() -> None:
    for size, steps in ((2, 20), (3, 4)):  # with three, two have no row in an epoch's last batch
        alone = train_all(ALONE, steps)
        ranks = run_workers(train_all, size, steps, seconds=60)
        for case, (weights, (losses, seen)) in enumerate(alone):
            for rank in ranks:
                found, (their_losses, their_seen) = rank[case]
                assert found.keys() == weights.keys()
                for name, expected in weights.items():
                    torch.testing.assert_close(found[name], expected, rtol=1e-6, atol=1e-7)
                assert their_losses == pytest.approx(losses, rel=1e-4)
                assert their_seen == pytest.approx(seen)  # a penalty counts once
            for name in weights:  # to the last bit the same at every worker
                assert all(torch.equal(r[case][0][name], ranks[0][case][0][name]) for r in ranks)


class Two(WorkerGroup):
    """Worker 0 of two, whose partner sends back what is listed."""

    size = 2

    def __init__(self, *partner: torch.Tensor) -> None:
        self.partner = list(partner)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.add_(self.partner.pop(0))

    def send_all(self, tensor: torch.Tensor, source: int = 0) -> torch.Tensor:
        return tensor.copy_(self.partner.pop(0))


def test_gradients_are_added_where_either_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obert_sweeps.train.parallel._BUCKET", 5)
    both, ours, theirs, nobodys = (torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(4))
    both.grad, ours.grad = torch.ones(2, 2), torch.full((2, 2), 3.0)
    told = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.5])
    group = Two(told, torch.full((4,), 10.0), torch.zeros(4), torch.full((4,), 20.0))
    loss = GradientSum([both, ours, theirs, nobodys], group)(torch.tensor(0.25))
    assert float(loss) == 0.75 and not group.partner
    assert [float(p.grad[0, 0]) for p in (both, ours, theirs)] == [11.0, 3.0, 20.0]
    assert nobodys.grad is None


def test_workers_that_came_to_other_weights_are_refused() -> None:
    model = torch.nn.Linear(2, 1)
    sums = torch.stack([p.double().sum() for p in model.parameters()]).detach()
    check_equal(model, ALONE)
    check_equal(model, Two(sums))
    with pytest.raises(StageError, match="workers_per_stage=1"):
        check_equal(model, Two(sums + 1e-7))


def evaluate_all(group: WorkerGroup) -> list[Any]:
    found = []
    for head in ("classification", "regression", "span"):
        for rows in (13, 1):
            task = Toy(head=head, rows=rows)
            data = data_of(task)
            setup = Setup(CPU, group=group)
            found.append(row_logits(model_of(task), data, data.evaluation[0], setup, tokens=40))
    return found


def test_every_worker_gets_the_logits_of_all_rows() -> None:
    alone = evaluate_all(ALONE)
    for rank in run_workers(evaluate_all, 3, seconds=60):
        for found, expected in zip(rank, alone, strict=True):
            for ours, theirs in zip(found, expected, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def share(group: WorkerGroup) -> list[Any]:
    """Two tensors of two dimensions a row, of sizes of their own."""
    shares = [[4, 0], [], [3, 1, 2]]
    rows: list[Any] = [None] * 5
    for row in shares[group.rank]:
        rows[row] = (torch.full((row, 3), float(row)), torch.full((2, row + 1), -float(row)))
    return [share_rows(rows, shares, group), share_rows([], [[], [], []], group)]


def test_rows_of_any_size_are_shared() -> None:
    for rows, nothing in run_workers(share, 3):
        assert nothing == [] and len(rows) == 5
        for row, (first, second) in enumerate(rows):
            assert first.shape == (row, 3) and bool((first == row).all())
            assert second.shape == (2, row + 1) and bool((second == -row).all())
