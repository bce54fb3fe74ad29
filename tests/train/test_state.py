"""A saved state goes on bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from resumed import whole_and_resumed
from tiny_run import TRAINING, Diary, a_run

from obert_sweeps.schema import PruningTimes, StageError
from obert_sweeps.train.loop import train
from obert_sweeps.train.seeds import seed_everything
from obert_sweeps.train.state import State


@pytest.mark.parametrize("at", [1, 4, 7])
def test_a_saved_state_goes_on_bit_for_bit(tmp_path: Path, at: int) -> None:
    """Dropout, momentum, masks, the best so far: all of it, through a file, into a new process's
    objects whose random states are elsewhere."""
    training = replace(TRAINING, keep="best", pruning=PruningTimes(1, 2, 1, 0.3))

    whole, again = whole_and_resumed(lambda: a_run(training, 0.6, dropout=0.2)[:2], at, tmp_path)
    assert again.metrics == whole.metrics
    assert whole.best is not None and again.best is not None
    assert (again.best.epoch, again.best.metrics) == (whole.best.epoch, whole.best.metrics)
    for x, y in zip(whole.optimizer.state.values(), again.optimizer.state.values(), strict=True):
        assert all(torch.equal(x[k], y[k]) for k in x)
    with pytest.raises(StageError, match="not of other"):
        again.load(tmp_path, "other")


def test_a_pruning_step_that_is_in_the_checkpoint_is_not_taken_again(tmp_path: Path) -> None:
    training = replace(TRAINING, pruning=PruningTimes(1, 2, 1, 0.3))
    run, state, _ = a_run(training, 0.6)
    run.checkpoint_seconds = 0.0

    class Killed(Exception):
        pass

    def save(state: State) -> None:
        if state.pruned_at == 3:
            state.save(tmp_path, "id")
            raise Killed

    run.checkpoint = save
    with pytest.raises(Killed):
        train(run, state)
    method = Diary()
    run, again, _ = a_run(training, 0.6, method=method)
    again.load(tmp_path, "id")
    assert again.step == 3 and again.masks.sparsity() == pytest.approx(0.3, abs=1e-4)
    train(run, again)
    assert [e for e in method.events if e != "step"] == [("prune", 0.6, True)]
    assert method.events.count("step") == 6


def test_to_rewind_is_to_start_the_encoder_and_the_optimiser_anew_and_not_the_head() -> None:
    run, state, _ = a_run()
    begun = {k: v.clone() for k, v in state.model.base_model.state_dict().items()}
    train(run, state)
    head = state.model.classifier.weight.detach().clone()
    state.rewind(begun)
    assert all(torch.equal(v, begun[k]) for k, v in state.model.base_model.state_dict().items())
    assert torch.equal(state.model.classifier.weight, head) and not state.optimizer.state


def test_dropout_matters_to_these_tests() -> None:
    results = []
    for seed in (1, 2):
        run, state, _ = a_run(dropout=0.2)
        seed_everything(seed)
        train(run, state)
        results.append(state.model.classifier.weight.detach().clone())
    assert not torch.equal(*results)
