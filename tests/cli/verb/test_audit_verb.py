"""`audit` on planted knobs: what it says and how it ends."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace

import pytest
from report.fake_sweep import sweep

from obert_sweeps.cli.verb import audit


@pytest.fixture
def ask(monkeypatch, capsys):
    def answer(fake, style="text"):
        monkeypatch.setattr(audit, "make_plan", lambda loaded, store: fake)
        monkeypatch.setattr(audit, "store_of", lambda loaded: fake)
        code = audit.main(SimpleNamespace(request=SimpleNamespace(store="x", format=style)))
        return code, capsys.readouterr().out

    return answer


def plant(fake, cell, key, value):
    plan = fake.cells[cell]
    plan.knobs = copy.deepcopy(plan.knobs)
    plan.knobs["method"][key] = value


def test_one_set_up_for_all_tasks_passes(ask):
    code, out = ask(sweep(), "json")
    document = json.loads(out)
    assert code == 0 and document["ok"] and document["violations"] == []
    obert = next(r for r in document["given"] if (r["table"], r["method"]) == (5, "obert"))
    assert obert["effort"]["fisher_gradients"] == 64 and len(obert["tasks"]) == 7


def test_a_planted_per_task_value_fails_and_is_named(ask):
    fake = sweep()
    plant(fake, "t5/mrpc/bert_base/obert/90", "damp", 1e-6)
    code, out = ask(fake)
    assert code == 1
    (line,) = [line for line in out.splitlines() if line.startswith("obert is called")]
    assert "method.damp" in line and "mrpc 1e-06" in line


def test_a_competitor_may_be_tuned(ask):
    fake = sweep()
    plant(fake, "t5/mrpc/bert_base/platon/90", "beta2", 0.95)
    code, out = ask(fake)
    assert code == 0 and "table 5  PLATON 90: 1 per-task knob (method.beta2)" in out
