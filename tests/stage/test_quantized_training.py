"""INT8 in a training stage: zeros, ranges that are fixed in time, and interruptions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tiny_bert import Stopping
from tiny_stage import masks, one_shot, run, runtime, stage, weights

from obert_sweeps.method.magnitude import Magnitude
from obert_sweeps.model.quantize import QuantLinear
from obert_sweeps.schema import Interrupted
from obert_sweeps.trial import run_stage

PER_EPOCH = 3  # steps: 24 rows in batches of 8
WATCHING = {"_target_": "test_quantized_training.Watching", "scope": "global"}


class Watching(Magnitude):
    """Notes a layer's ranges and weights after each step."""

    seen: ClassVar[list[dict[str, float]]] = []

    def attach(self, layers: dict[str, Any], masks: Any) -> list[dict[str, Any]]:
        Watching.seen = []
        self.watched = next(iter(layers.values()))
        return super().attach(layers, masks)

    def after_step(self) -> None:
        assert isinstance(self.watched, QuantLinear)
        layer = self.watched
        Watching.seen.append(
            {
                "input": float(layer.input_range.high),
                "weight": float(layer.weight_range.high),
                "sum": float(layer.weight.detach().sum()),
            }
        )


@pytest.fixture(autouse=True)
def not_stopping() -> Iterator[None]:
    Stopping.stop_after = None
    yield
    Stopping.stop_after = None


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a dense model and one pruned in one shot."""
    store = tmp_path_factory.mktemp("store")
    run(store, stage("dense"))
    run(store, one_shot())
    return store


def qat(name: str, until: float, **changes: Any) -> dict[str, Any]:
    return stage(name, {"start": "pruned"}, quantize={"observe_until": until}, **changes)


def test_what_was_pruned_stays_exactly_zero(pruned: Path) -> None:
    result = run(pruned, qat("zeros", 1.0))
    held, found = masks(pruned, "zeros"), weights(pruned, "zeros")
    for layer, keep in masks(pruned, "pruned").items():
        assert torch.equal(held[layer], keep)
        assert bool((found[f"{layer}.weight"][~keep] == 0).all())
    assert result["sparsity"]["overall"] == pytest.approx(0.6, abs=1e-4)
    first = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(found[first], weights(pruned, "pruned")[first])  # it was trained


@pytest.mark.parametrize("until", [1.0, 4 / 3])
def test_ranges_follow_the_data_up_to_their_epoch_and_then_stay(pruned: Path, until: float) -> None:
    name = f"until-{until:.2f}"
    run(pruned, qat(name, until, method=WATCHING), allow_targets=["tiny_bert", __name__])
    steps, fixed = Watching.seen, round(until * PER_EPOCH)
    assert len(steps) == 2 * PER_EPOCH
    for range_ in ("input", "weight"):
        values = [step[range_] for step in steps]
        assert len(set(values[:fixed])) == fixed  # each step moves it
        assert set(values[fixed:]) == {values[fixed - 1]}
    assert len({step["sum"] for step in steps[fixed - 1 :]}) > 1  # though weights move on
    # What is saved is what was fixed.
    saved = [v for k, v in weights(pruned, name).items() if k.endswith("query.input_range.high")]
    assert float(saved[0]) == steps[-1]["input"]


def test_interrupted_at_any_step_it_ends_as_undisturbed(pruned: Path) -> None:
    """Also while ranges still move, and with a teacher in float32."""
    spec = stage(
        "qat",
        {"start": "pruned", "teacher": "dense"},
        quantize={"observe_until": 1.0},
        method={"_target_": "tiny_bert.Stopping", "scope": "global"},
        distill={"hardness": 0.5, "temperature": 2.0},
    )
    ends, lives = {}, 0
    for place in ("whole", "broken"):
        how = {"output": str(pruned / place), "checkpoint_seconds": 0.0}
        while True:
            Stopping.stop_after = 2 if place == "broken" else None
            try:
                assert run_stage(spec, runtime(pruned, **how))["status"] == "done"
                break
            except Interrupted:
                lives += 1
                torch.rand(lives)
        ends[place] = weights(pruned / place, "qat")
    assert lives == 2 * PER_EPOCH - 1  # a life of two steps gets one further
    whole, broken = ends["whole"], ends["broken"]
    assert whole.keys() == broken.keys()
    assert sum(name.endswith(("_range.low", "_range.high")) for name in whole) > 20
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
