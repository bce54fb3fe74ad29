"""Every conf/task leaf is the schema of its class, and the published facts stand in it."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

NAMES = "sst2 cola mrpc stsb qqp mnli qnli squad mlm".split()


def make(keys: dict[str, Any]) -> Any:
    module, _, name = keys["_target_"].rpartition(".")
    arguments = {key: value for key, value in keys.items() if key != "_target_"}
    return getattr(importlib.import_module(module), name)(**arguments)


def leaf(project_root: Path, name: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((project_root / f"conf/task/{name}.yaml").read_text())
    return data


@pytest.mark.parametrize("name", NAMES)
def test_leaf_lists_every_key_of_its_constructor(project_root: Path, name: str) -> None:
    keys = leaf(project_root, name)
    assert next(iter(keys)) == "_target_"
    task = make({**keys, "source": "generated"})
    parameters = inspect.signature(type(task)).parameters
    assert set(parameters) == set(keys) - {"_target_"}
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
    assert all(p.annotation is not inspect.Parameter.empty for p in parameters.values())
    assert task.name == name == keys["data"]
    assert keys["source"] == "hub" and keys["folder"] is None
    assert task.best_metric in task.metrics


def test_reported_metrics_and_splits(project_root: Path) -> None:
    metrics = {n: leaf(project_root, n).get("metrics") for n in NAMES}
    assert metrics == {
        "sst2": ["accuracy"],
        "cola": ["mcc"],
        "mrpc": ["accuracy", "f1"],
        "stsb": ["pearson", "spearman"],
        "qqp": ["accuracy", "f1"],
        "mnli": ["accuracy", "accuracy_mm"],
        "qnli": ["accuracy"],
        "squad": ["f1", "em"],
        "mlm": None,
    }
    mnli = leaf(project_root, "mnli")
    assert mnli["evaluation_splits"] == ["validation", "validation_mismatched"]
    assert mnli["hub_splits"] == {"validation": "validation_matched"}


@pytest.mark.parametrize(
    "module",
    ["obert_sweeps.task.check", "obert_sweeps.task.demo", "obert_sweeps.task.sources"],
)
def test_planner_side_modules_are_light(module: str) -> None:
    code = (
        f"import {module}, sys; "
        "print(sorted({'torch', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_constructors_import_no_datasets() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests/task'); import task_cases as t; "
        "t.glue(source='hub'); t.squad(source='hub'); t.mlm(source='hub', hub='a/a'); "
        "print('datasets' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == "False"
