"""What a person meets at the door: help, answers on stdout, errors, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from obert_sweeps import __version__
from obert_sweeps.cli.door import main
from obert_sweeps.cli.manual import GROUPS, KEYS, VERBS
from obert_sweeps.request.read import read


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("arguments", [(), ("--help",), ("help",)])
def test_help_names_every_verb_with_an_example(capsys, arguments) -> None:
    code, out, err = answer(capsys, *arguments)
    assert code == 0 and err == ""
    assert all(f"obert-sweeps {verb.example}" in out for verb in VERBS.values())


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_a_module_and_a_help(capsys, verb) -> None:
    code, out, _ = answer(capsys, verb, "--help")
    assert code == 0 and VERBS[verb].does in out


def test_help_has_the_keys_of_the_verb_and_every_leaf(capsys, project_root) -> None:
    _, gc, _ = answer(capsys, "gc", "--help")
    _, run, _ = answer(capsys, "run", "--help")
    assert "confirm=true" in gc and "confirm=" not in run and "vary=all" in run
    _, whole, _ = answer(capsys, "--help")
    for group in GROUPS:
        leaves = {path.stem for path in (project_root / "conf" / group).glob("*.yaml")}
        assert leaves <= set(whole.replace(",", " ").split()), group
    assert max(map(len, (gc + run + whole).splitlines())) <= 100


def test_what_help_says_of_keys_is_understood() -> None:
    known = {word for said, _ in KEYS.values() for word in said.split()}
    read(sorted(known - {"model.path=DIR"}))
    assert {key for verb in VERBS.values() for key in verb.keys} == set(KEYS)
    assert {group for verb in VERBS.values() for group in verb.groups} == set(GROUPS)


def test_help_is_quick(tmp_path) -> None:
    """It imports nothing that takes long."""
    code = (
        "import sys; from obert_sweeps.cli.door import main; main(['run', '--help']); "
        "sys.exit(str({'hydra', 'omegaconf', 'rich', 'torch'} & set(sys.modules) or ''))"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert asked.stderr.strip() == ""


def test_ls_is_the_document(capsys) -> None:
    code, out, err = answer(capsys, "ls", "format=json")
    rows = json.loads(out)
    assert (code, err, len(rows)) == (0, "", 69)
    assert [sum(r["table"] == t for r in rows) for t in range(1, 6)] == [4, 5, 3, 8, 49]
    keys = "id table task model method sparsity pattern published note".split()
    assert all(list(row) == keys for row in rows)
    assert sum(all(v is None for v in row["published"].values()) for row in rows) == 6


def test_plan_answers_in_json_and_says_what_is_blocked(capsys) -> None:
    code, out, _ = answer(capsys, "plan", "table=all", "preset=paper", "format=json")
    document = json.loads(out)
    assert document["totals"]["cells"] == 69
    blocked = [c for c in document["cells"] if c["blocked"]]
    assert code == (1 if blocked else 0)
    kinds = {stage["recipe"]["kind"] for stage in document["stages"]}
    assert kinds == {"train", "export", "benchmark", "teacher_logits"}


@pytest.mark.parametrize("verb", ["ls", "plan"])
def test_a_look_imports_neither_torch_nor_ray_and_leaves_nothing(verb, tmp_path) -> None:
    code = (
        "import sys; from obert_sweeps.cli.door import main; main(sys.argv[1:]); "
        "heavy = {'torch', 'ray', 'wandb', 'transformers', 'datasets'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    arguments = [sys.executable, "-c", code, verb, "table=all", "preset=paper"]
    looked = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path)
    assert looked.returncode == 0, looked.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frobnicate"], "not a verb"),
        (["run", "-m", "table=1,2"], "multirun) is not supported"),
        (["run", "--cfg", "job", "-m"], "multirun) is not supported"),
        (["-m", "ls"], "multirun) is not supported"),
        (["run", "--cfg", "job", "comparison=equal"], "Use comparison=as_published or"),
        (["plan", "--cfg=job", "budget.max_epochs=-3"], "it must be above 0"),
        (["ls", "foo"], "Use key=value"),
        (["ls", "stage=x"], "stage= is for status and replay, not for ls"),
        (["launch", "cluster=slurm", "confirm=true"], "confirm= is for gc, not for launch"),
        (["plan", "cluster.cpus_per_stage=x"], "cluster.cpus_per_stage=x"),
        (["plan", "cluster.gpus_per_stage=x"], "cluster.gpus_per_stage=x"),
        (["run", "--resume"], "not an option"),
        (["plan", "tabel=5"], "tabel"),
        (["run", "task=sst3"], "sst2"),
        (["run", "table=1", "sparsity=2of4", "sparsity.level=2"], "table=0"),
        (["run", "cells=*/dense", "budget.max_fisher_gradients=2"], "touches no stage"),
        (["run", "table=1", "method=obert", "method.damp=-1"], "damp"),
        (["run", "table=1", "cluster.runner=slurm"], "cluster.runner"),
        (["replay"], "stage="),
        (["status", "stage=ffff"], "no stage"),
    ],
)
def test_a_wrong_request_exits_2_and_writes_nothing(
    capsys, tmp_path, monkeypatch, arguments, says
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = answer(capsys, *arguments)
    assert (code, out) == (2, "")
    assert "error: " in err and says in err
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_working_folder_is_said(capsys, tmp_path, monkeypatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, out, err = answer(capsys, "ls")
    assert (code, out) == (2, "") and "cd DIR" in err


def test_a_defect_is_one_line_after_its_traceback(capsys, monkeypatch) -> None:
    def broken(*_: object) -> int:
        raise ValueError("not a\nnumber")

    monkeypatch.setattr("obert_sweeps.cli.verb.ls.main", broken)
    code, out, err = answer(capsys, "ls")
    *before, last = err.strip().splitlines()
    assert (code, out) == (1, "") and "Traceback" in before[0]
    assert last.startswith("error: ValueError: not a number. This is a defect of obert-sweeps")


def program(words: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    line = f"{sys.executable} -m obert_sweeps {words}"
    return subprocess.run(line, shell=True, capture_output=True, env=os.environ | env)


def test_streams_that_cannot_take_the_answer() -> None:
    helped = program("--help", PYTHONIOENCODING="ascii")
    assert (helped.returncode, helped.stderr) == (0, b"") and b"key=value] ?" in helped.stdout
    listed = program("ls table=2", PYTHONIOENCODING="ascii")
    assert (listed.returncode, listed.stderr) == (0, b"") and b"t2/squad" in listed.stdout
    closed = program("ls >&-")
    assert closed.returncode == 2 and b"error: stdout is closed" in closed.stderr
    assert program("ls table=9 2>&-").stdout == b""


def test_hydra_takes_its_flags_either_way() -> None:
    assert program("plan --cfg=job table=5").stdout == program("plan --cfg job table=5").stdout


def sst2(folder: Path, *, train: int = 8, validation: int = 4, label: str = "label") -> Path:
    """A data_root with an SST-2 of so many rows."""
    for split, rows in (("train", train), ("validation", validation)):
        columns = {"sentence": ["a fine film"] * rows, label: [i % 2 for i in range(rows)]}
        schema = pa.schema([("sentence", pa.string()), (label, pa.int64())])
        (folder / "sst2").mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns, schema=schema), folder / "sst2" / f"{split}.parquet")
    return folder


RUN = ["run", "cells=t5/sst2/bert_base/dense", "cluster=inline", "tracker=none", "store=runs"]


def test_broken_input_is_found_before_anything_starts(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, model = tmp_path / "data", tmp_path / "model"
    (data / "empty").mkdir(parents=True)
    model.mkdir()
    (model / "config.json").write_text("{}")
    cases = [
        ([f"data_root={data}/empty"], "not found"),
        ([f"data_root={sst2(data / 'nolabel', label='verdict')}"], "label"),
        ([f"data_root={sst2(data / 'norows', validation=0)}"], "no rows"),
        (["model=bert_base", f"model.path={model}"], "config.json"),
        (["model=bert_base", f"model.path={tmp_path}/absent"], "model.path=DIR"),
    ]
    for overrides, says in cases:
        code, out, err = answer(capsys, *RUN, *overrides)
        assert (code, out) == (2, ""), err
        assert says in err, err
        assert not (tmp_path / "runs").exists()


def test_a_store_that_cannot_be_written_is_refused(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    code, out, err = answer(capsys, *RUN[:-1], f"store={tmp_path}/file/runs")
    assert (code, out) == (2, "") and "store" in err
    code, _, err = answer(capsys, *RUN[:-1], "store=/proc/obert-sweeps")
    assert code == 2 and "cannot be written" in err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"obert-sweeps {__version__}\n"


def test_help_of_run_and_launch_lists_the_keys_of_a_cluster_and_the_exit_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, run, _ = answer(capsys, "run", "--help")
    for said in ("cluster.address", "cluster.memory_gb", "cluster.max_failures", "143"):
        assert said in run
    assert "cluster.launch." in answer(capsys, "launch", "--help")[1]
