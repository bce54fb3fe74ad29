"""The benchmark stage: whose figures are the result, and what the engines score."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from deploy_chain import benchmark
from tiny_stage import run

from obert_sweeps.deploy.engines.base import Arrays, Outcome
from obert_sweeps.deploy.engines.onnx_runtime import OnnxRuntime
from obert_sweeps.stage import benchmark as stage_of_it
from obert_sweeps.stage.benchmark import metrics_of
from obert_sweeps.store import Store

PARENTS = {"start": "export", "against": "dense-export"}


class Timed(OnnxRuntime):
    """ONNX Runtime's logits in so many seconds, dense and compressed."""

    seconds: ClassVar[tuple[float, float]]

    def run(self, inputs: Arrays) -> Outcome:
        outcome = super().run(inputs)
        seconds = self.seconds[self.file.name != "model.onnx"]
        return Outcome(self.told(outcome.logits, inputs), seconds, seconds)

    def told(self, logits: dict[str, np.ndarray], inputs: Arrays) -> dict[str, np.ndarray]:
        return logits


class Slow(Timed):
    """Right on what it is checked with, and the opposite on rows with padding, as it is scored."""

    name = "slow"
    seconds = (0.8, 0.4)

    def told(self, logits: dict[str, np.ndarray], inputs: Arrays) -> dict[str, np.ndarray]:
        padded = (np.asarray(inputs["attention_mask"]) == 0).any()
        return {name: -array if padded else array for name, array in logits.items()}


class Fast(Timed):
    name = "fast"
    seconds = (0.6, 0.1)


class Wrong(Timed):
    """Faster still, and not the model."""

    name = "wrong"
    seconds = (0.1, 0.01)

    def told(self, logits: dict[str, np.ndarray], inputs: Arrays) -> dict[str, np.ndarray]:
        return {name: array * 0.05 for name, array in logits.items()}


class Absent(OnnxRuntime):
    name = "absent"

    @classmethod
    def missing(cls) -> str | None:
        return "make absent"


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {kind.name: kind for kind in (Slow, Fast, Wrong, Absent)}
    monkeypatch.setattr(stage_of_it, "engine_of", lambda leaf: (kinds[leaf["name"]], {}))


def by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["engine"]: row for row in result["benchmark"]["engines"]}


@pytest.mark.usefixtures("fakes")
def test_the_result_is_that_of_the_fastest_right_engine(chain: Path) -> None:
    spec = benchmark("choice", PARENTS, ["slow", "absent", "wrong", "fast"])
    result = run(chain, spec)
    rows, export = by_name(result), Store(str(chain)).result("export")
    assert export is not None and result["engine"] == "fast" and "remark" not in result
    assert result["metrics"]["throughput"] == pytest.approx(4 / 0.1)
    assert result["metrics"]["speedup"] == pytest.approx(6.0)
    assert result["metrics"]["file_mb"] == export["metrics"]["file_mb"]
    assert result["metrics"]["accuracy"] == rows["fast"]["metrics"]["accuracy"] > 80
    assert rows["slow"]["metrics"]["accuracy"] < 50
    assert rows["slow"]["figures"][0]["speedup"] == pytest.approx(2.0)
    assert rows["absent"] == {"engine": "absent", "missing": "make absent"}
    assert "differ from" in rows["wrong"]["wrong"]
    assert "figures" not in rows["wrong"] and "metrics" not in rows["wrong"]
    log = (chain / "stages/choice/log.txt").read_text()
    assert "absent is missing: make absent" in log and "wrong is wrong: " in log


@pytest.mark.usefixtures("fakes")
def test_where_no_engine_runs_there_is_no_speed_and_a_remark(chain: Path) -> None:
    result = run(chain, benchmark("none", PARENTS, ["absent", "wrong"]))
    export = Store(str(chain)).result("export")
    assert export is not None and result["status"] == "done" and result["engine"] is None
    assert result["metrics"] == export["metrics"]
    assert "absent is missing (make absent)" in result["remark"]
    assert "delete this stage's folder and run the same command again" in result["remark"]
    assert "wrong is wrong (its logits" in result["remark"]


@pytest.mark.usefixtures("fakes")
def test_a_dense_model_is_its_own_measure(chain: Path) -> None:
    result = run(chain, benchmark("dense-speed", {"start": "dense-export"}, ["fast"]))
    assert result["metrics"]["throughput"] == pytest.approx(4 / 0.6)
    assert result["metrics"]["speedup"] == 1.0


def test_the_engines_score_what_training_measured(chain: Path) -> None:
    """The trained INT8 model, run by each engine that is here over the validation rows."""
    engines = ["onnxruntime", "openvino", "deepsparse"]
    result = run(chain, benchmark("real", PARENTS, engines, max_eval_rows=None))
    trained = Store(str(chain)).result("qat")
    assert trained is not None and trained["metrics"]["accuracy"] > 80
    rows = by_name(result)
    ran = [name for name in engines if "missing" not in rows[name]]
    assert "onnxruntime" in ran
    for name in ran:
        found = rows[name]["metrics"]
        assert found["accuracy"] == pytest.approx(trained["metrics"]["accuracy"], abs=0.3), name
        assert found["loss"] == pytest.approx(trained["metrics"]["loss"], rel=0.05), name
        for side in ("dense", "compressed"):
            assert rows[name][side]["version"] and rows[name][side]["flags"]
    few = run(chain, benchmark("few", PARENTS, ["onnxruntime"], max_eval_rows=6))
    sixths = [100 * k / 6 for k in range(7)]
    assert few["metrics"]["accuracy"] in map(pytest.approx, sixths)
    assert few["metrics"]["loss"] != pytest.approx(rows["onnxruntime"]["metrics"]["loss"], rel=1e-3)


def test_on_a_gpu_the_best_shape_counts_and_on_cpus_the_first() -> None:
    figures = [{"dense": {"throughput": 5.0}, "speedup": x} for x in (1.2, 1.9, 0.7)]
    row = {"figures": figures, "metrics": {"accuracy": 90.0}}
    assert metrics_of(row, gpu=True) == {"gpu_speedup": 1.9}
    assert metrics_of(row, gpu=False) == {"accuracy": 90.0, "throughput": 5.0, "speedup": 1.2}
