"""Which tasks have rows of which a teacher can say its logits once."""

from __future__ import annotations

from obert_sweeps.plan.dag import Plan, make_plan
from obert_sweeps.plan.known_logits import can_be_known
from obert_sweeps.request.read import read


def test_rows_that_are_masked_anew_are_told_by_their_task_and_not_by_its_name() -> None:
    leaves = read([]).leaves["task"]
    assert [name for name, task in leaves.items() if not can_be_known(task)] == ["mlm"]
    assert not can_be_known({**leaves["mlm"], "name": "my_texts"})
    assert can_be_known({**leaves["sst2"], "name": "mlm"})


def test_a_task_of_spans_with_a_name_of_its_own_is_planned_like_squad() -> None:
    cell = "table=0 task=squad model=bert_base method=obert sparsity=unstructured".split()

    def planned(*more: str) -> Plan:
        return make_plan(read([*cell, "schedule=gradual", "distill=kd_t2", *more]))

    def logits(plan: Plan) -> list[str]:
        return [s.id for s in plan.wanted() if s.recipe["kind"] == "teacher_logits"]

    assert len(logits(planned("task.name=manuals"))) == len(logits(planned())) == 1
