"""A training run beside one that goes on from what it saved on its way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from obert_sweeps.train.loop import Run, train
from obert_sweeps.train.seeds import seed_everything
from obert_sweeps.train.state import State


def whole_and_resumed(
    begin: Callable[[], tuple[Run, State]], at: int, folder: Path
) -> tuple[State, State]:
    """Both at their ends, equal to the last bit; the second goes on from a file of step `at`.

    It does so in new objects, as a new process has, with random states that are elsewhere.
    """
    run, whole = begin()
    run.checkpoint_seconds = 0.0

    def save(state: State) -> None:
        if state.step == at and not (folder / "state.pt").exists():
            state.save(folder, "id")

    run.checkpoint = save
    train(run, whole)
    run, again = begin()
    seed_everything(999)
    again.load(folder, "id")
    assert again.step == at
    train(run, again)
    for a, b in ((whole.model, again.model), (whole.method, again.method)):
        expected, found = a.state_dict(), b.state_dict()
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            same = torch.equal(value, found[key]) if torch.is_tensor(value) else value == found[key]
            assert same, key
    assert all(torch.equal(k, again.masks.keep[n]) for n, k in whole.masks.keep.items())
    return whole, again
