"""What a plan knows of engines and benchmarks, against the engines themselves."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from obert_sweeps.deploy.check import check_benchmark
from obert_sweeps.deploy.engines import deepsparse_apart, known
from obert_sweeps.deploy.engines.base import Engine
from obert_sweeps.deploy.engines.known import ENGINES, class_of, engine_of, survey
from obert_sweeps.schema import RequestError

RIGHT = {"engines": [{"name": "openvino"}], "shapes": [[1, 64]], "warmup": 0, "repeats": 1}


def check(**changes: Any) -> None:
    recipe = {"model": {"name": "small"}, "benchmark": {**RIGHT, **changes}}
    check_benchmark("speed", recipe, {"max_position_embeddings": 64})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"engines": [{"name": "onnx"}]}, "no engine 'onnx'. Choose from onnxruntime, openvino"),
        ({"engines": [{}]}, "no engine None"),
        ({"engines": [{"name": "openvino", "precison": "f32"}]}, "'precison': it takes precision"),
        ({"engines": [{"name": "deepsparse", "threads": 4}]}, "'threads': it has no options"),
        ({"engines": []}, "nothing to measure"),
        ({"shapes": []}, "nothing to measure"),
        ({"shapes": [[1, 64, 2]]}, "[1, 64, 2] is not a shape"),
        ({"shapes": [[0, 64]]}, "[0, 64] is not a shape"),
        ({"shapes": [[1, 64], [1, 65]]}, "[1, 65] is not a shape"),
        ({"repeats": 0}, "repeats=0"),
        ({"warmup": -1}, "warmup=-1"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes: dict[str, Any], says: str) -> None:
    check()
    with pytest.raises(RequestError) as error:
        check(**changes)
    assert says in str(error.value) and "benchmark 'speed' of small" in str(error.value)


def test_stages_that_measure_nothing_pass() -> None:
    check_benchmark("train", {"model": {"name": "small"}}, {})


@pytest.mark.parametrize("name", ENGINES)
def test_the_engines_that_a_plan_knows_are_those_there_are(name: str) -> None:
    kind = class_of(name)
    assert issubclass(kind, Engine) and kind.name == name
    taken = set(inspect.signature(kind).parameters) - {"threads"}
    assert taken == set(ENGINES[name].options)


def test_a_recipes_engine_is_its_class_and_its_options() -> None:
    kind, options = engine_of({"name": "openvino", "precision": "bf16"})
    assert (kind, options) == (class_of("openvino"), {"precision": "bf16"})
    with pytest.raises(RequestError, match="no engine 'tensorrt'"):
        engine_of({"name": "tensorrt"})


def test_a_plan_looks_engines_up_without_importing_them() -> None:
    code = (
        "import sys, obert_sweeps.deploy.check as c; "
        "c.check_benchmark('b', {'model': {'name': 'm'}, 'benchmark': dict(shapes=[[1, 8]], "
        "engines=[{'name': 'torch'}], repeats=1, warmup=0)}, {}); "
        "print({'torch', 'onnx', 'onnxruntime', 'openvino', 'numpy'} & set(sys.modules))"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert asked.stdout.strip() == "set()", asked.stderr


def test_the_survey_has_a_version_or_the_mend_of_each_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexit 1\n")  # an environment that DeepSparse is not in
    fake.chmod(0o755)
    monkeypatch.setenv(deepsparse_apart.VARIABLE, str(fake))
    found = {row.pop("name"): row for row in survey()}
    assert list(found) == list(known.ENGINES)
    assert found["torch"] == {"version": torch.__version__, "missing": None}
    assert "make deepsparse" in str(found["deepsparse"]["missing"])
    assert found["deepsparse"]["version"] is None
    assert all((row["version"] is None) == (row["missing"] is not None) for row in found.values())
    json.dumps(found)


def test_doctor_tells_missing_engines_without_calling_them_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from obert_sweeps.cli.verb import doctor

    rows = [
        {"name": "onnxruntime", "version": None, "missing": "pip install"},
        {"name": "deepsparse", "version": None, "missing": "make deepsparse"},
        {"name": "torch", "version": "2.13", "missing": None},
    ]
    monkeypatch.setattr(doctor, "ask", lambda *_: json.dumps(rows))
    needed, optional, there = doctor.engines()
    assert (needed["ok"], needed["mend"]) == (False, "pip install")  # every export needs it
    assert (optional["ok"], optional["found"], optional["mend"]) == (
        True,
        "not here",
        "make deepsparse",
    )
    assert (there["ok"], there["found"], there["mend"]) == (True, "2.13", "")
