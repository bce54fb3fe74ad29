"""What is timed, in which order, and that a wrong or missing engine gets no figures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from exported import Exports
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from tiny_bert import VOCABULARY

from obert_sweeps.deploy.agreement import FLOAT, INT8, REDUCED, difference, tolerance
from obert_sweeps.deploy.benchmark import BenchmarkPlan, benchmark, random_inputs
from obert_sweeps.deploy.engines.base import Arrays, Engine, Outcome
from obert_sweeps.deploy.engines.onnx_runtime import OnnxRuntime
from obert_sweeps.deploy.engines.openvino_cpu import OpenVino
from obert_sweeps.deploy.engines.torch_2of4 import Torch2of4
from obert_sweeps.deploy.engines.torch_dense import TorchDense
from obert_sweeps.schema import Runtime, StageError


class Scripted(OnnxRuntime):
    """ONNX Runtime's logits, at the times of a script; remembers the order of its runs."""

    name = "scripted"
    times: ClassVar[dict[str, list[float]]] = {}
    ran: ClassVar[list[str]] = []

    def load(self, folder: Path) -> None:
        super().load(folder)
        self.side = folder.name

    def run(self, inputs: Arrays) -> Outcome:
        outcome = super().run(inputs)
        Scripted.ran.append(self.side)
        mine = sum(side == self.side for side in Scripted.ran)
        seconds = Scripted.times[self.side][mine - 1]
        return Outcome(outcome.logits, seconds, 2 * seconds if self.side == "dense" else seconds)


class Wrong(OnnxRuntime):
    """Right on the dense model; on the compressed one like what was seen of an engine once."""

    name = "wrong"

    def run(self, inputs: Arrays) -> Outcome:
        outcome = super().run(inputs)
        if self.file.name != "model.onnx":
            outcome.logits = {name: array * 0.05 for name, array in outcome.logits.items()}
        return outcome


class Broken(OnnxRuntime):
    name = "broken"

    def load(self, folder: Path) -> None:
        raise StageError("it does not take this graph")


class Short(OnnxRuntime):
    """Its library fails on batches longer than eight tokens."""

    name = "short"

    def load(self, folder: Path) -> None:
        super().load(folder)
        self.session = SimpleNamespace(run=self.fail_on_long, whole=self.session)

    def fail_on_long(self, names: Any, feed: Arrays) -> Any:
        if feed["input_ids"].shape[1] > 8:
            raise Fail("[ONNXRuntimeError] no memory\nand where")
        return self.session.whole.run(names, feed)


class Absent(OnnxRuntime):
    name = "absent"

    @classmethod
    def missing(cls) -> str | None:
        return "make absent"


def plan_of(exports: Exports, **more: Any) -> BenchmarkPlan:
    shapes = more.pop("shapes", [(4, 10)])
    inputs = random_inputs(VOCABULARY)
    return BenchmarkPlan(
        {"dense": exports.dense, "compressed": exports.compressed}, inputs, shapes, **more
    )


def test_both_models_are_timed_in_turn_and_warm_ups_do_not_count(exports: Exports) -> None:
    Scripted.ran.clear()
    # One run is the check, two are warm-ups; then five count.
    Scripted.times = {
        "dense": [9, 9, 9, 0.4, 0.1, 0.2, 0.3, 0.9],
        "compressed": [9, 9, 9, 0.1, 0.1, 0.1, 0.2, 0.9],
    }
    report = benchmark(plan_of(exports, warmup=2, repeats=5), [(Scripted, {})])
    assert Scripted.ran == ["dense", "compressed"] * 8
    (row,) = report["engines"]
    (figure,) = row["figures"]
    assert (figure["batch"], figure["length"]) == (4, 10)
    assert figure["dense"] == pytest.approx(
        {"median_ms": 300.0, "p95_ms": 800.0, "cpu_ms": 600.0, "throughput": 4 / 0.3}
    )
    assert figure["compressed"]["median_ms"] == pytest.approx(100.0)
    assert figure["speedup"] == pytest.approx(3.0)
    assert figure["cpu_speedup"] == pytest.approx(6.0)
    assert row["compressed"]["products"]["share"] == 1.0
    assert row["compressed"]["version"] and row["compressed"]["flags"]
    assert report["machine"]["cpu"] and report["machine"]["threads"] == report["threads"] == 1


def test_the_gpu_is_named_where_engines_run_on_one(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Some {device.type}")
    how = Runtime(store="", device="cuda", threads=2)
    report = benchmark(plan_of(exports), [], how)
    assert report["machine"]["gpu"] == "Some cuda"
    assert report["machine"]["threads"] == report["threads"] == 2
    assert benchmark(plan_of(exports), [])["machine"]["gpu"] is None


def test_a_wrong_broken_or_missing_engine_is_told_and_not_timed(exports: Exports) -> None:
    engines = [(kind, {}) for kind in (Wrong, Broken, Absent, Torch2of4)]
    wrong, broken, absent, gpu = benchmark(plan_of(exports, repeats=1), engines)["engines"]
    assert "compressed model differ from onnxruntime's by 0.95" in wrong["wrong"]
    assert wrong["dense"]["difference"] == 0.0
    assert broken["wrong"] == "it does not take this graph"
    assert absent == {"engine": "absent", "missing": "make absent"}
    assert "compute capability >= 8.0" in gpu["missing"]
    assert not any("figures" in row for row in (wrong, broken, absent, gpu))


def test_an_engine_that_fails_at_a_shape_costs_the_others_nothing(exports: Exports) -> None:
    plan = plan_of(exports, shapes=[(4, 8), (2, 10)], warmup=0, repeats=1)
    short, right = benchmark(plan, [(Short, {}), (OnnxRuntime, {})])["engines"]
    assert short["wrong"] == "short failed on a batch of 2 x 10: [ONNXRuntimeError] no memory"
    assert "figures" not in short
    assert [figure["batch"] for figure in right["figures"]] == [4, 2] and "wrong" not in right


def test_an_engine_that_fails_while_it_is_scored_has_no_figures(exports: Exports) -> None:
    def score(engine: Engine) -> dict[str, Any]:
        engine.run(random_inputs(VOCABULARY)(3, 9))
        return {"accuracy": 50.0}

    plan = plan_of(exports, shapes=[(4, 8)], warmup=0, repeats=1, score=score)
    short, right = benchmark(plan, [(Short, {}), (OnnxRuntime, {})])["engines"]
    assert "while it was scored: short failed on a batch of 3 x 9: " in short["wrong"]
    assert not {"figures", "metrics"} & set(short) and right["metrics"] == {"accuracy": 50.0}


def test_what_is_wrong_with_the_rows_is_no_engines_fault(exports: Exports) -> None:
    def score(engine: Engine) -> dict[str, Any]:
        raise StageError("a column is missing")

    with pytest.raises(StageError, match="a column is missing"):
        benchmark(plan_of(exports, warmup=0, repeats=1, score=score), [(OnnxRuntime, {})])


def test_a_dense_model_is_held_to_floats_beside_a_quantised_one(exports: Exports) -> None:
    class Coarse(OnnxRuntime):
        """Wrong by a tenth: as INT8 may be, and floats may not."""

        def run(self, inputs: Arrays) -> Outcome:
            outcome = super().run(inputs)
            outcome.logits = {name: 1.1 * array for name, array in outcome.logits.items()}
            return outcome

    (row,) = benchmark(plan_of(exports, repeats=1), [(Coarse, {})])["engines"]
    assert FLOAT < 0.1 < INT8 and "the dense model differ" in row["wrong"]


def test_random_inputs_are_rows_without_padding_in_two_segments() -> None:
    batch = random_inputs(VOCABULARY)(3, 10)
    assert all(array.shape == (3, 10) and array.dtype == np.int64 for array in batch.values())
    assert batch["attention_mask"].all() and 5 < len(np.unique(batch["input_ids"])) <= VOCABULARY
    assert batch["token_type_ids"].tolist() == [[0] * 5 + [1] * 5] * 3


@pytest.mark.parametrize("kind", [OnnxRuntime, OpenVino, TorchDense])
def test_a_real_engine_is_measured_at_every_shape(exports: Exports, kind: type[Engine]) -> None:
    if kind.missing():
        pytest.skip(kind.missing())
    shapes = [(1, 8), (4, 16)]
    plan = plan_of(exports, shapes=shapes, warmup=1, repeats=2, check=(8, 12))
    (row,) = benchmark(plan, [(kind, {})])["engines"]
    assert [(f["batch"], f["length"]) for f in row["figures"]] == shapes
    for figure in row["figures"]:
        for side in ("dense", "compressed"):
            assert 0 < figure[side]["median_ms"] <= figure[side]["p95_ms"]


@given(scale=st.floats(0.01, 10), seed=st.integers(0, 99), hidden=st.floats(-1e6, 1e6, width=32))
def test_the_difference_is_relative_and_of_real_tokens(
    scale: float, seed: int, hidden: float
) -> None:
    generator = np.random.default_rng(seed)
    names = ("start_logits", "end_logits")
    expected = {name: generator.normal(size=(3, 5)) + 0.1 for name in names}
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    found = {name: np.where(mask, scale * expected[name], hidden) for name in names}
    assert difference(found, expected, mask) == pytest.approx(abs(scale - 1), abs=1e-9)


def test_a_difference_of_shape_or_nan_is_infinite() -> None:
    expected, mask = {"logits": np.ones((2, 3))}, np.ones((2, 4))
    assert difference({"logits": np.ones((2, 2))}, expected, mask) == float("inf")
    assert difference({"logits": np.full((2, 3), np.nan)}, expected, mask) == float("inf")
    assert difference({"logits": np.ones((2, 3))}, expected, mask) == 0.0
    assert difference({"logits": np.ones((2, 3))}, {"logits": np.zeros((2, 3))}, mask) > INT8
    assert tolerance(True, True) == INT8 > tolerance(False, True) == REDUCED > FLOAT
    assert tolerance(False, False) == FLOAT
