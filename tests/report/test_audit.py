"""The fairness audit on planted knobs."""

from __future__ import annotations

import copy

from report.fake_sweep import sweep

from obert_sweeps.report import audit, build


def group(found, table, method):
    return next(g for g in found["methods"] if (g["table"], g["method"]) == (table, method))


def set_knob(fake, cell_id, part, key, value):
    plan = fake.cells[cell_id]
    plan.knobs = copy.deepcopy(plan.knobs)
    plan.knobs[part][key] = value


def test_equal_recipes_have_no_per_task_knob():
    found = audit(sweep().cells.values())
    assert found["ok"] and found["violations"] == []
    assert all(g["knobs"] == [] for g in found["methods"])
    assert len(group(found, 5, "obert")["tasks"]) == 7


def test_a_planted_knob_of_a_tuning_free_method_fails_it():
    fake = sweep()
    set_knob(fake, "t5/mrpc/bert_base/obert/90", "method", "damp", 1e-6)
    found = audit(fake.cells.values())
    assert not found["ok"]
    (violation,) = found["violations"]
    assert (violation["table"], violation["knob"]) == (5, "method.damp")
    assert violation["values"]["mrpc"] == 1e-6 and violation["values"]["sst2"] == "(absent)"
    claims = {claim["id"]: claim["verdict"] for claim in build(fake, fake)["claims"]}
    assert (claims["t5/no-tuning"], claims["t4/no-tuning"]) == ("broken", "held")


def test_a_tuned_method_may_be_tuned():
    fake = sweep()
    set_knob(fake, "t5/mrpc/bert_base/platon/90", "method", "beta2", 0.95)
    set_knob(fake, "t5/cola/bert_base/platon/90", "training", "learning_rate", [{"initial": 2e-4}])
    found = audit(fake.cells.values())
    names = [knob["knob"] for knob in group(found, 5, "platon")["knobs"]]
    assert found["ok"] and names == ["method.beta2", "training.learning_rate.0.initial"]


def test_early_stopping_is_named_apart():
    fake = sweep()
    set_knob(fake, "t5/mrpc/bert_base/obert/90", "training", "patience", 2)
    found = audit(fake.cells.values())
    obert = group(found, 5, "obert")
    assert found["ok"] and obert["knobs"] == []
    assert [knob["knob"] for knob in obert["early_stopping"]] == ["training.patience"]


def test_distillation_in_table_5_breaks_its_claim():
    fake = sweep()
    for task in ("mrpc", "cola"):
        distill = {"hardness": 1.0, "temperature": 5.5}
        set_knob(fake, f"t5/{task}/bert_base/obert/90", "training", "distill", distill)
    report = build(fake, fake)
    claims = {claim["id"]: claim["verdict"] for claim in report["claims"]}
    assert claims["t5/no-distillation"] == "broken"
    assert group(report["audit"], 5, "obert")["distilled"] == ["mrpc", "cola"]


def test_blocked_cells_have_no_recipe_and_one_task_decides_nothing():
    fake = sweep()
    for plan in fake.cells.values():
        plan.selected = plan.cell.id == "t5/sst2/bert_base/obert/90"
        plan.knobs = plan.knobs if plan.selected else {}
    report = build(fake, fake)
    assert [g["tasks"] for g in report["audit"]["methods"]] == [["sst2"]]
    claims = {claim["id"]: claim["verdict"] for claim in report["claims"]}
    assert claims["t5/no-tuning"] == claims["t5/platon-is-tuned"] == "undecided"


def test_that_a_competitor_is_tuned_is_a_claim_too():
    def verdict(fake):
        claims = build(fake, fake)["claims"]
        return next(c["verdict"] for c in claims if c["id"] == "t5/platon-is-tuned")

    fake = sweep()
    assert verdict(fake) == "broken"  # equal recipes
    set_knob(fake, "t5/mrpc/bert_base/platon/90", "method", "beta2", 0.95)
    assert verdict(fake) == "held"
