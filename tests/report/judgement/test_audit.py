"""The fairness audit on planted knobs."""

from __future__ import annotations

import copy

from report.fake_sweep import sweep

from obert_sweeps.report import words
from obert_sweeps.report.build import build
from obert_sweeps.report.judgement.audit import audit


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
    assert found["ok"] and names == ["method.beta2", "training.learning_rate.peak"]


def test_a_longer_or_faster_schedule_of_the_same_shape_differs_in_one_knob():
    def schedule(epochs: float, rate: float) -> dict:
        return {
            "epochs": epochs,
            "learning_rate": [
                {"until": epochs / 10, "initial": 0.0, "final": rate, "every": None},
                {"until": epochs, "initial": rate, "final": 0.0, "every": epochs / 5},
            ],
            "pruning": {"start": epochs / 20, "end": epochs * 0.7, "every": None, "initial": 0.0},
        }

    fake = sweep()
    for cell_id, plan in fake.cells.items():
        if "/platon/" in cell_id:
            plan.knobs = {"training": schedule(3, 1e-4), "method": {}}
    mrpc, cola = (f"t5/{task}/bert_base/platon/90" for task in ("mrpc", "cola"))
    fake.cells[mrpc].knobs = {"training": schedule(7, 1e-4), "method": {}}
    assert names_of(fake) == ["training.epochs"]
    fake.cells[cola].knobs = {"training": schedule(7, 3e-4), "method": {}}
    assert names_of(fake) == ["training.epochs", "training.learning_rate.peak"]
    fake.cells[cola].knobs["training"]["pruning"]["end"] = 7 * 0.8
    assert names_of(fake) == ["pruning.end", "training.epochs", "training.learning_rate.peak"]


def names_of(fake) -> list[str]:
    knobs = group(audit(fake.cells.values()), 5, "platon")["knobs"]
    return [knob["knob"] for knob in knobs]


def test_a_knob_of_an_earlier_stage_counts_once():
    fake = sweep()
    for cell_id, plan in fake.cells.items():
        if cell_id.startswith("t5/") and "/platon/" in cell_id:
            epochs = 5 if "mrpc" in cell_id else 3
            rounds = {f"round_{k}": {"training": {"epochs": epochs}} for k in range(3)}
            plan.knobs = {"training": {"epochs": 3}, "method": {}, "earlier": rounds}
    assert names_of(fake) == ["round_0: training.epochs"]


def test_what_the_authors_set_and_no_recipe_takes_is_named_apart():
    fake = sweep()
    for cell_id, plan in fake.cells.items():
        if "/platon/" in cell_id:
            plan.knobs = {**plan.knobs, "not_taken": {"seed": len(cell_id), "remaining": 0.1}}
    found = group(audit(fake.cells.values()), 5, "platon")
    assert found["knobs"] == [] and [k["knob"] for k in found["not_taken"]] == ["seed"]


def test_early_stopping_is_named_apart():
    fake = sweep()
    set_knob(fake, "t5/mrpc/bert_base/obert/90", "training", "patience", 2)
    found = audit(fake.cells.values())
    obert = group(found, 5, "obert")
    assert found["ok"] and obert["knobs"] == []
    assert [knob["knob"] for knob in obert["early_stopping"]] == ["training.patience"]


def test_the_best_epoch_is_told_as_chosen_on_what_is_scored():
    fake = sweep()
    for task in ("mrpc", "sst2"):
        set_knob(fake, f"t5/{task}/bert_base/obert/90", "training", "keep", "best")
    told = words.methods.knobs(group(audit(fake.cells.values()), 5, "obert"))
    assert "keeps the best epoch on the development set, which is also scored (" in told


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
    assert claims["t5/no-distillation"] == "undecided"  # of all tasks and methods, not of some


def test_that_a_competitor_is_tuned_is_a_claim_too():
    def verdict(fake):
        claims = build(fake, fake)["claims"]
        return next(c["verdict"] for c in claims if c["id"] == "t5/platon-is-tuned")

    fake = sweep()
    assert verdict(fake) == "broken"  # equal recipes
    for plan in fake.cells.values():
        plan.selected = plan.cell.task in ("sst2", "cola")
    assert verdict(fake) == "undecided"  # of two tasks of seven
    for plan in fake.cells.values():
        plan.selected = True
    set_knob(fake, "t5/mrpc/bert_base/platon/90", "method", "beta2", 0.95)
    assert verdict(fake) == "held"


def test_at_an_equal_budget_nothing_is_said_of_whose_recipes_are_tuned():
    fake = sweep()
    for plan in fake.cells.values():
        plan.comparison = None if plan.cell.method == "dense" else "at equal budget"
    claims = {c["id"]: (c["verdict"], c["evidence"]) for c in build(fake, fake)["claims"]}
    assert claims["t5/no-tuning"] == claims["t5/platon-is-tuned"] == ("undecided", [])
    assert claims["t5/no-distillation"][0] == "held"
