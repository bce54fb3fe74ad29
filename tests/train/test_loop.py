"""When things happen in a stage, and which weights are its result."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import TRAINING, Diary, a_run

from obert_sweeps.method.base import PruneStep
from obert_sweeps.schema import PruningTimes, StageError
from obert_sweeps.sparsity.mask import Masks
from obert_sweeps.train import loop
from obert_sweeps.train.loop import prune, train
from obert_sweeps.train.timetable import Timetable, timetable
from obert_sweeps.worker_group import WorkerGroup


def test_pruning_comes_before_its_step_and_masks_hold_to_the_end() -> None:
    method = Diary()
    training = replace(TRAINING, pruning=PruningTimes(1, 2, 0.5, 0.3))
    run, state, _ = a_run(training, 0.8, rows=32, method=method)
    assert train(run, state) is None
    assert method.events == [
        *["step"] * 4,
        ("prune", 0.3, False),
        *["step"] * 2,
        ("prune", 0.7375, False),  # 0.3 + 0.5 (1 - 0.5^3)
        *["step"] * 2,
        ("prune", 0.8, True),
        *["step"] * 4,
    ]
    zeros = sum(int((x.weight == 0).sum()) for x in run.layers.values())
    assert zeros == round(0.8 * sum(x.weight.numel() for x in run.layers.values()))
    assert state.step == 12


def test_each_step_has_the_rate_and_the_rows_of_its_place() -> None:
    rates: list[float] = []
    rows: list[list[int]] = []

    class Watching(Diary):
        def after_step(self) -> None:
            rates.append(state.optimizer.param_groups[0]["lr"])

    run, state, records = a_run(rows=25, method=Watching(), log_seconds=0.0)
    step = run.step
    run.step = lambda batch: rows.append(batch["rows"].tolist()) or step(batch)  # type: ignore
    train(run, state)
    line = [0.01 - 0.009 * i / 11 for i in range(12)]  # an epoch has three batches and one row
    assert rates == pytest.approx(line)
    assert [r["lr"] for r in records if "lr" in r] == pytest.approx(line)
    for epoch in (rows[:4], rows[4:8], rows[8:]):
        assert sorted(row for batch in epoch for row in batch) == list(range(25))
    assert len({str(epoch) for epoch in (rows[:4], rows[4:8], rows[8:])}) == 3


def test_workers_draw_dropout_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "evaluate", lambda *_: {"accuracy": 50.0, "loss": 1.0})

    class Ranked(WorkerGroup):
        def __init__(self, rank: int) -> None:
            self.rank = rank

    def trained(rank: int) -> torch.Tensor:
        run, state, _ = a_run(dropout=0.2)
        run.setup = replace(run.setup, group=Ranked(rank))
        train(run, state)
        return state.model.classifier.weight.detach()

    assert not torch.equal(trained(1), trained(2))


def test_a_pruning_step_is_told_the_target_the_workers_and_the_room_there_is(
    tmp_path: Path,
) -> None:
    asked: list[PruneStep] = []

    class Asking(Diary):
        def prune(self, step: PruneStep) -> None:
            asked.append(step)
            step.note("from the method")
            super().prune(step)

    times = PruningTimes(1, 2, 1, 0.3, until=3)  # masks may still move at the target
    run, state, _ = a_run(replace(TRAINING, pruning=times), 0.6, method=Asking())
    lines: list[str] = []
    run.memory, run.scratch = 2**20, tmp_path
    run.setup = replace(run.setup, note=lines.append, group=WorkerGroup())
    train(run, state)
    levels = [(s.level, s.target, s.final) for s in asked]
    assert levels == [(0.3, 0.6, False), (0.6, 0.6, False), (0.6, 0.6, True)]
    assert len({s.seed for s in asked}) == len({s.gradients.seed for s in asked}) == 3  # type: ignore
    for step in asked:
        assert (step.memory, step.scratch, step.group) == (2**20, tmp_path, run.setup.group)
    assert lines[0] == "from the method" and "30.00% asked for, 30.00% pruned" in lines[1]


def test_neighbouring_seeds_draw_nothing_alike_at_any_pruning_step() -> None:
    drawn: list[tuple[int, torch.Tensor]] = []

    class Drawing(Diary):
        def prune(self, step: PruneStep) -> None:
            assert step.gradients is not None
            drawn.append((step.seed, next(step.gradients(4, 2))[1].clone()))

    training = replace(TRAINING, pruning=PruningTimes(0, 1, every_steps=1))
    run, state, _ = a_run(training, 0.6, method=Drawing())
    for run.seed in (42, 43, 44):
        for step in run.times.prunings:
            prune(run, state, step)  # the weights stay as they are: equal rows, equal gradients
    assert len({seed for seed, _ in drawn}) == len(drawn) > 9
    for (_, one), (_, other) in itertools.combinations(drawn, 2):
        assert not torch.allclose(one, other)


def test_of_many_pruning_steps_a_hundred_are_told_and_the_last() -> None:
    times = Timetable(1000, 100, {s: 0.5 for s in (*range(100, 900, 2), 987)}, {1000})
    assert times.noted == {*range(100, 900, 10), 987}
    few = Timetable(90, 10, {10: 0.3, 50: 0.6}, {90})
    assert few.noted == {10, 50} and (few.target, few.last_pruning) == (0.6, 50)


def test_a_dense_model_has_no_pruning_steps_to_wait_for_in_a_schedule_that_prunes() -> None:
    training = replace(TRAINING, pruning=PruningTimes(1, 2, 1))
    found = timetable(training, "dense", 0.0, lambda: 24)
    assert (found.prunings, found.last_pruning, found.target) == ({}, -1, 0.0)


def test_weights_that_are_not_finite_are_not_pruned_by() -> None:
    class Breaking(Diary):
        def after_step(self) -> None:
            super().after_step()
            with torch.no_grad():
                state.model.classifier.bias[0] = math.nan

    method = Breaking()
    training = replace(TRAINING, evaluate_every=3, pruning=PruningTimes(1 / 3, 1 / 3))
    run, state, _ = a_run(training, 0.5, method=method)
    run.times.records.clear()
    evidence = train(run, state)
    assert evidence is not None and evidence["reason"] == "weights are not finite"
    assert method.events == ["step"]


@pytest.mark.parametrize("rewinds", [False, True])
def test_no_step_and_no_evaluation_sees_a_pruned_weight(
    monkeypatch: pytest.MonkeyPatch, rewinds: bool
) -> None:
    class Watching(Diary):
        def attach(self, layers: Any, masks: Masks) -> list[dict[str, Any]]:
            self.masks = masks
            return []

        def penalty(self) -> None:
            self.masks.check()  # in the middle of every step, before the update
            assert state.model.training

        def prune(self, step: PruneStep) -> None:
            super().prune(step)
            state.model.eval()

    method = Watching()
    checked: list[float] = []

    def evaluate(*_: Any) -> dict[str, float]:
        method.masks.check()
        checked.append(method.masks.sparsity())
        return {"accuracy": 50.0, "loss": 1.0}

    monkeypatch.setattr(loop, "evaluate", evaluate)
    training = replace(TRAINING, pruning=PruningTimes(1, 2, 1, 0.3))
    run, state, _ = a_run(training, 0.6, method=method)
    state.model.eval()
    if rewinds:
        run.rewind = {k: v.clone() for k, v in state.model.base_model.state_dict().items()}
    train(run, state)
    assert checked == pytest.approx([0.0, 0.3, 0.6], abs=1e-4)


def test_one_shot_prunes_and_evaluates_without_a_step_or_training_rows() -> None:
    method = Diary()
    training = replace(TRAINING, epochs=0, learning_rate=[], pruning=PruningTimes(0, 0))
    run, state, records = a_run(training, 0.5, method=method)
    before = {k: v.clone() for k, v in state.model.state_dict().items()}
    train(run, state)
    assert method.events == [("prune", 0.5, True)]
    assert [sorted(r) for r in records] == [["epoch", "metrics", "step", "time"]]
    assert run.data.task.read == ["validation"]  # type: ignore[attr-defined]
    for name, tensor in state.model.state_dict().items():
        layer = name.removesuffix(".weight")
        keep = state.masks.keep.get(layer)
        assert torch.equal(tensor, before[name] if keep is None else before[name] * keep)


def test_evaluations_and_records_fall_where_they_are_asked_for() -> None:
    run, state, records = a_run(replace(TRAINING, epochs=2.5, evaluate_every=1.0))
    train(run, state)
    assert [r["step"] for r in records if "metrics" in r] == [3, 6, 8]  # 2.5 x 3 = 7.5, upwards
    losses = [r for r in records if "loss" in r]
    assert [r["step"] for r in losses] == [3, 6, 8]
    assert {"steps", "epochs", "lr", "sparsity", "samples_per_second", "time"} <= set(losses[0])
    run, state, records = a_run(replace(TRAINING, epochs=1, evaluate_every=1 / 3))
    train(run, state)
    assert [r["step"] for r in records if "metrics" in r] == [1, 2, 3]
    run, state, records = a_run(log_seconds=0.0)
    train(run, state)
    assert [r["step"] for r in records if "loss" in r] == list(range(1, 10))


def test_a_record_holds_the_mean_loss_since_the_one_before() -> None:
    run, state, records = a_run(log_seconds=0.0)
    train(run, state)
    each = [r["loss"] for r in records if "loss" in r]
    run, state, records = a_run()
    train(run, state)
    means = [r["loss"] for r in records if "loss" in r]
    assert means == pytest.approx([sum(each[i : i + 3]) / 3 for i in (0, 3, 6)], rel=1e-5)
    assert len(set(means)) == 3


def scored(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> list[dict[str, Any]]:
    """Evaluations give these accuracies in turn; returns the weights seen at each."""
    seen: list[dict[str, Any]] = []

    def evaluate(model: Any, *_: Any) -> dict[str, float]:
        seen.append({k: v.clone() for k, v in model.state_dict().items()})
        return {"loss": float(len(seen)), "accuracy": scores[len(seen) - 1]}

    monkeypatch.setattr(loop, "evaluate", evaluate)
    return seen


def test_keep_best_gives_back_the_best_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    for keep, expected in (("best", 1), ("last", 3)):
        seen = scored(monkeypatch, [50.0, 70.0, math.nan, 70.0])
        run, state, _ = a_run(replace(TRAINING, epochs=4, keep=keep))
        train(run, state)
        assert all(torch.equal(seen[expected][k], v) for k, v in state.model.state_dict().items())
        assert state.metrics["accuracy"] == 70.0
        if keep == "best":
            assert state.best is not None and state.best.epoch == 2.0  # the first of equals
        else:
            assert state.best is None


def test_evaluations_of_denser_models_are_not_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    scored(monkeypatch, [90.0, 80.0, 60.0, 50.0])
    training = replace(TRAINING, epochs=4, keep="best", pruning=PruningTimes(1, 2, 1, 0.3))
    run, state, _ = a_run(training, 0.6)
    train(run, state)
    assert state.best is not None and (state.best.epoch, state.best.score) == (3.0, 60.0)
    assert state.masks.sparsity() == pytest.approx(0.6, abs=1e-4)


def test_patience_stops_after_so_many_epochs_without_a_better_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = scored(monkeypatch, [50.0, 60.0, 55.0, 60.0, 99.0])
    run, state, _ = a_run(replace(TRAINING, epochs=5, keep="best", patience=2))
    train(run, state)
    assert len(seen) == 4 and state.stopped and state.step == 12
    assert train(run, state) is None and len(seen) == 4  # a stopped stage does not go on


class Exploding(Diary):
    def penalty(self) -> torch.Tensor | None:
        steps = sum(event == "step" for event in self.events)
        return torch.tensor(math.inf, requires_grad=True) if steps == 4 else None


def test_divergence_is_told_with_evidence_and_a_best_epoch_survives_it() -> None:
    for keep in ("last", "best"):
        run, state, records = a_run(replace(TRAINING, keep=keep), method=Exploding())
        evidence = train(run, state)
        assert evidence == {"reason": "the training loss is not finite", "epoch": 2.0, "step": 6}
        assert records[-1]["loss"] is None
        assert (state.best is not None) == (keep == "best")
    assert all(bool(p.isfinite().all()) for p in state.model.parameters())


def test_weights_that_are_not_finite_are_not_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = scored(monkeypatch, [50.0])

    class Breaking(Diary):
        def after_step(self) -> None:
            with torch.no_grad():
                state.model.classifier.bias[0] = math.nan

    run, state, _ = a_run(replace(TRAINING, epochs=1 / 3), method=Breaking())
    evidence = train(run, state)
    assert evidence is not None and evidence["reason"] == "weights are not finite"
    assert not seen


def test_a_divergence_is_seen_before_a_pruning_step() -> None:
    """Else the pruning step fails on weights that are not finite, and the stage with it."""
    training = replace(TRAINING, evaluate_every=3, pruning=PruningTimes(5 / 3, 5 / 3))
    run, state, _ = a_run(training, 0.5, method=Exploding())
    evidence = train(run, state)
    assert evidence is not None and evidence["step"] == 5


def test_a_method_that_leaves_pruned_weights_behind_fails() -> None:
    class Careless(Diary):
        def prune(self, step: PruneStep) -> None:
            super().prune(step)
            step.masks.apply = lambda: None  # type: ignore[method-assign]

    training = replace(TRAINING, pruning=PruningTimes(1, 1))
    run, state, _ = a_run(training, 0.5, method=Careless())
    with pytest.raises(StageError, match=r"bert\.encoder\.layer"):
        train(run, state)
