"""Whose word on a recipe is the last: schedule, preset, user, budget."""

from __future__ import annotations

import pytest

from obert_sweeps.plan.dag import Plan, make_plan
from obert_sweeps.request.read import read

GRADUAL = ["table=0", "task=sst2", "model=bert_base", "method=magnitude", "schedule=gradual"]


def plan(*overrides: str) -> Plan:
    return make_plan(read(list(overrides)))


def test_a_budget_shortens_in_proportion_and_makes_a_stand_in() -> None:
    short = plan(
        "preset=paper", "cells=t2/squad/bert_large/obert/90", "seeds=1", "budget.max_epochs=6"
    )
    stage = short.stages[short.cells["t2/squad/bert_large/obert/90"].finals[42]]
    training = stage.recipe["training"]
    assert training["epochs"] == 6
    assert training["pruning"]["start"] == pytest.approx(0.4)
    assert training["pruning"]["end"] == pytest.approx(5.2)
    assert all(c.stand_in for c in short.selected())
    assert not any(c.stand_in for c in plan("preset=paper", "cells=*/dense").selected())


def test_a_budget_caps_rows_and_gradients_and_raises_none() -> None:
    said = ["preset.stages.gradual.max_train_rows=40", "preset.stages.gradual.max_eval_rows=8"]
    said += ["preset.stages.gradual.precision=bf16"]

    def pruned(train: int, evaluated: int, gradients: int) -> tuple[dict, dict, dict]:
        budget = {"train_rows": train, "eval_rows": evaluated, "fisher_gradients": gradients}
        words = [f"budget.max_{key}={value}" for key, value in budget.items()]
        cell = "t2/squad/bert_large/obert/90"
        planned = plan("preset=demo", f"cells={cell}", *said, *words)
        stage = planned.stages[planned.cells[cell].finals[42]]
        logits = planned.stages[stage.parents["logits"]].recipe["logits"]
        return stage.recipe["training"], stage.recipe["method"], logits

    training, method, logits = pruned(30, 5, 16)
    assert (training["max_train_rows"], training["max_eval_rows"]) == (30, 5)
    assert method["num_grads"] == 16
    assert logits == {"precision": "bf16", "max_train_rows": 30}
    training, method, _ = pruned(50, 9, 1000)
    assert (training["max_train_rows"], training["max_eval_rows"]) == (40, 8)
    assert method["num_grads"] == 64  # the preset's


def test_a_presets_word_for_every_stage_yields_to_its_word_for_one(shared_dir) -> None:
    small = plan(
        "preset=small",
        f"data_root={shared_dir / 'data'}",
        "model=bert_base",
        f"model.path={shared_dir / 'models' / 'minilm-l6'}",
        "cells=['t4/sst2/*','t5/sst2/*']",
        "preset.stages.movement.group_by_length=7",
    )
    found: dict[str, set[int]] = {}
    for stage in small.stages.values():
        rows = stage.recipe.get("training", {}).get("group_by_length")
        found.setdefault(stage.tags["role"], set()).add(rows)
    assert found["pretrain"] == found["upstream"] == found["ofa_upstream"] == {0}
    assert found["movement"] == {7}
    assert found["dense"] == found["platon"] == found["transfer"] == {50}


def test_a_presets_word_for_every_leaf_yields_to_its_word_for_one() -> None:
    planned = plan("preset=demo", "cells='t5/sst2/*/dense'", "preset.task.sst2.max_length=32")
    lengths = {s.recipe["task"]["name"]: s.recipe["task"]["max_length"] for s in planned.wanted()}
    assert lengths == {"sst2": 32, "mlm": 64}


def test_the_users_word_on_a_stage_is_the_last() -> None:
    own = [word.replace("sst2", "squad") for word in GRADUAL]
    planned = plan(*own, "preset=demo", "schedule.stages.gradual.epochs=6")
    (cell,) = planned.selected()
    assert cell.knobs["training"]["epochs"] == 6  # the preset says 4, the schedule 30
    notes = planned.stages[cell.finals[42]].notes
    assert notes["schedule"]["schedule"] == "gradual"  # as it was said, not gradual_squad
