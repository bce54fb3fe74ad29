"""Exit codes, whoever reads the answer."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from obert_sweeps.cli.door import main
from obert_sweeps.cli.manual import help_text
from obert_sweeps.cli.verb import run
from obert_sweeps.plan.dag import make_plan
from obert_sweeps.request.read import read
from obert_sweeps.store import Store
from obert_sweeps.sweep import Event

LS = ["ls", "table=5"]


def code_of(arguments: list[str], **streams: object) -> int:
    command = [sys.executable, "-m", "obert_sweeps", *arguments]
    return subprocess.run(command, **streams).returncode  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (LS, 0),
        ([*LS, "format=json"], 0),
        (["--help"], 0),
        (["ls", "table=9"], 2),
        (["status", "cells=t5/sst2/bert_base/dense", "store=/nothing/here"], 0),
    ],
)
def test_a_reader_that_has_left_changes_no_exit_code(arguments, code) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert code_of(arguments, stdout=writer, stderr=writer) == code
    finally:
        os.close(writer)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], LS])
def test_a_full_stdout_is_not_blamed_on_the_store(arguments) -> None:
    command = [sys.executable, "-m", "obert_sweeps", *arguments]
    with open("/dev/full", "w") as full:
        told = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert told.returncode == 1
    assert "stdout: No space left on device" in told.stderr and "store" not in told.stderr


@pytest.mark.parametrize("verb", ["plan", "status", "report", "audit", "gc", "doctor", "run"])
def test_where_every_cell_is_blocked_only_run_refuses(verb, capsys, tmp_path) -> None:
    request = ["cells=t5/sst2/bert_base/*", f"data_root={tmp_path}/gone", f"store={tmp_path}/runs"]
    code = main([verb, *request])
    told = capsys.readouterr()
    assert code == (2 if verb == "run" else 1), told.err
    assert "was not found" in " ".join((told.out + told.err).split())
    assert (tmp_path / "runs").exists() == (verb == "report")


@pytest.mark.parametrize("verb", ["plan", "run", "status", "report", "audit", "gc"])
def test_a_method_that_is_not_trusted_is_refused_by_each_verb_that_plans(
    verb, capsys, tmp_path
) -> None:
    """Else those of them without the key would speak of other stages than those with it."""
    request = ["cells=t5/sst2/bert_base/magnitude/90", "method=magnitude", f"store={tmp_path}/runs"]
    assert main([verb, *request, "method._target_=mine.prune.Mine"]) == 2
    assert "If you trust it, say allow_targets=[mine]" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert "allow_targets=[PACKAGE]" in help_text(verb)


def test_status_of_a_failed_stage_exits_1(capsys, tmp_path) -> None:
    Store(str(tmp_path)).folder("abc").write_json("failure.json", {"reason": "no such column"})
    assert main(["status", "stage=ab", f"store={tmp_path}"]) == 1
    assert "no such column" in capsys.readouterr().out


@pytest.mark.parametrize(("done", "code"), [(2, 1), (3, 0)])
def test_a_report_of_fewer_seeds_than_were_asked_for_exits_1(done, code, tmp_path) -> None:
    request = ["cells=t5/sst2/bert_base/dense", "seeds=3", f"store={tmp_path}"]
    planned = make_plan(read(request)).cells["t5/sst2/bert_base/dense"]
    for stage in list(planned.finals.values())[:done]:
        result = {"id": stage, "status": "done", "metrics": {"accuracy": 90.0}}
        Store(str(tmp_path)).folder(stage).write_json("result.json", result)
    assert main(["report", *request]) == code


def test_a_run_in_which_a_stage_failed_exits_1_though_every_cell_has_its_result(
    tmp_path, monkeypatch
) -> None:
    def run_plan(stages, runtime, cluster, on_event, first) -> None:
        on_event(Event("failed", stages[0].id, {"status": "failed"}, "no such column"))

    monkeypatch.setattr(run, "run_plan", run_plan)
    monkeypatch.setattr(run, "check_stages", lambda stages, plan, allowed: None)
    monkeypatch.setattr(run, "conclude", lambda loaded, plan, store: 0)
    request = ["cells=t5/sst2/bert_base/dense", "cluster=inline", "tracker=none"]
    assert main(["run", *request, f"store={tmp_path}"]) == 1
