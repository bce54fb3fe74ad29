"""One budget for all methods, and the knobs that the resolved recipes hold for each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from obert_sweeps.plan.dag import CellPlan, Plan, make_plan
from obert_sweeps.report.judgement.audit import audit
from obert_sweeps.request.read import read
from obert_sweeps.schema import RequestError

TABLES = "cells=['t4/*','t5/*','t2/*']"
BUDGET = {"epochs": 10.0, "batch_size": 32, "learning_rate": 5e-5}


def plan(*overrides: str) -> Plan:
    return make_plan(read(["preset=paper", "seeds=1", *overrides]))


@pytest.fixture(scope="module")
def published() -> Plan:
    return plan(TABLES)


@pytest.fixture(scope="module")
def equal() -> Plan:
    return plan(TABLES, "comparison=equal_budget")


def chain(planned: CellPlan) -> list[dict]:
    """The recipes of a cell's own chain, in order."""
    return [*planned.knobs["earlier"].values(), planned.knobs]


def competitors(planned: Plan) -> list[CellPlan]:
    return [c for c in planned.selected() if c.knobs and c.cell.method != "dense"]


def test_every_chain_gets_the_same_epochs_batch_and_highest_rate(equal: Plan) -> None:
    assert len(competitors(equal)) > 20
    for cell in competitors(equal):
        on_task = [r["training"] for r in chain(cell) if r["task"]["name"] == cell.cell.task]
        rates = [
            rate
            for training in on_task
            for piece in training["learning_rate"]
            for rate in (piece["initial"], piece["final"])
        ]
        assert sum(t["epochs"] for t in on_task) == pytest.approx(BUDGET["epochs"])
        assert {t["batch_size"] for t in on_task} == {32}
        assert max(rates) == BUDGET["learning_rate"]
        assert all((t["keep"], t["patience"]) == ("last", None) for t in on_task)


def test_shapes_are_kept_and_upstream_is_left_alone(published: Plan, equal: Plan) -> None:
    def shape(recipe: dict) -> dict:
        training = recipe["training"]
        pieces = training["learning_rate"]
        top = max(max(p["initial"], p["final"]) for p in pieces)
        pruning = training["pruning"] or {}
        times = {k: v for k, v in pruning.items() if k in ("start", "end", "every", "until") and v}
        return {
            "until": [p["until"] / training["epochs"] for p in pieces],
            "rates": [r / top for p in pieces for r in (p["initial"], p["final"])],
            "times": [time / training["epochs"] for time in times.values()],
        }

    for cell_id in (
        "t4/sst2/bert_base/lottery/90",
        "t4/sst2/bert_base/prune_ofa/90",
        "t5/mrpc/bert_base/magnitude/90",
        "t2/squad/bert_large/obert/90",
        "t4/sst2/bert_base/obert/90",
    ):
        before, after = (chain(p.cells[cell_id]) for p in (published, equal))
        for own, brought in zip(before, after, strict=True):
            if own["task"]["name"] == "mlm":
                assert own == brought
            elif own["training"]["learning_rate"]:
                for part, values in shape(own).items():
                    assert shape(brought)[part] == pytest.approx(values), (cell_id, part)
            assert own["sparsity"] == brought["sparsity"]
            if own["task"]["name"] != "squad":  # there the published one is of this task alone
                assert own["method"] == brought["method"]


def test_rounds_share_the_budget_in_proportion(equal: Plan) -> None:
    epochs = [r["training"]["epochs"] for r in chain(equal.cells["t4/sst2/bert_base/lottery/90"])]
    assert epochs == pytest.approx([1.0] * 10)  # nine rounds and a ticket, three of thirty each


def test_dense_models_keep_their_own_recipe(published: Plan, equal: Plan) -> None:
    for name, cell in published.cells.items():
        if cell.cell.method == "dense":
            assert equal.cells[name].finals == cell.finals


def test_no_method_has_a_knob_per_task_at_equal_budget(published: Plan, equal: Plan) -> None:
    found = audit(c for c in equal.selected() if c.cell.method != "dense")
    assert all(not g["knobs"] and not g["early_stopping"] for g in found["methods"])
    names = {g["method"]: g for g in audit(published.selected())["methods"] if g["table"] == 5}
    assert names["obert"]["knobs"] == [] and names["obert"]["tuning_free"]
    assert names["magnitude"]["knobs"] == []


def test_platon_has_its_nine_and_obert_none(published: Plan) -> None:
    """Six that the recipes hold, and the three of its scripts that no recipe here takes."""
    groups = {g["method"]: g for g in audit(published.selected())["methods"] if g["table"] == 5}
    platon = groups["platon"]
    assert [k["knob"] for k in platon["knobs"]] == [
        "method.beta2",
        "pruning.end",
        "pruning.start",
        "training.batch_size",
        "training.epochs",
        "training.learning_rate.peak",
    ]
    assert [k["knob"] for k in platon["not_taken"]] == ["dropout", "remaining", "seed"]
    rates = next(k for k in platon["knobs"] if k["knob"].endswith("peak"))["values"]
    assert rates["mnli"] == rates["sst2"] == 8e-5 and rates["cola"] == 1e-4
    obert = groups["obert"]
    assert len(obert["tasks"]) == 7 and obert["knobs"] == [] and obert["early_stopping"] == []
    assert obert["keeps_best"] == obert["tasks"]  # named apart, though all tasks have it
    assert groups["magnitude"]["keeps_best"] == []


def test_a_planted_value_of_one_task_fails_the_paper_s_audit(published: Plan) -> None:
    plans = {name: replace(cell) for name, cell in published.cells.items()}
    planted = plans["t5/mrpc/bert_base/obert/90"]
    planted.knobs = {**planted.knobs, "method": {**planted.knobs["method"], "num_grads": 512}}
    found = audit(plans.values())
    assert audit(published.cells.values())["ok"] and not found["ok"]
    assert [(v["method"], v["knob"]) for v in found["violations"]] == [
        ("obert", "method.num_grads")
    ]


def test_the_comparison_is_said_and_makes_stand_ins(published: Plan, equal: Plan) -> None:
    assert "equal budget: 10 epochs" in equal.comparison and "published" in published.comparison
    assert all(cell.stand_in for cell in equal.selected())
    assert not any(cell.stand_in for cell in published.selected())
    for cell in equal.selected():
        assert (cell.comparison is None) == (cell.cell.method == "dense")


def test_a_budget_caps_the_equal_one() -> None:
    cells = "cells=['t4/sst2/bert_base/lottery/90','t5/sst2/bert_base/magnitude/90']"
    capped = plan(cells, "comparison=equal_budget", "budget.max_epochs=4")
    for cell in competitors(capped):
        assert sum(r["training"]["epochs"] for r in chain(cell)) == pytest.approx(4)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["preset.equal_budget.epochs=4"], "touches no stage"),
        (["comparison=equal_budget", "preset.equal_budget.epochs=0"], "above 0"),
        (["comparison=equal"], "comparison=as_published or equal_budget"),
    ],
)
def test_what_cannot_be_meant_is_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(RequestError) as error:
        plan("cells=t5/sst2/bert_base/magnitude/90", *overrides)
    assert says in str(error.value)
