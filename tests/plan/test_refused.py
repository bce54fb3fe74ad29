"""Requests that cannot be meant are refused before a dense model is trained for them."""

from __future__ import annotations

import json

import pytest

from obert_sweeps.cli.check import check_stages, question, restates
from obert_sweeps.plan.dag import make_plan
from obert_sweeps.request.read import read
from obert_sweeps.schema import RequestError
from obert_sweeps.stage.check import faults

OWN = ["table=0", "task=sst2", "model=bert_base"]
PRUNED = [*OWN, "method=magnitude", "sparsity=unstructured"]


def found(*overrides: str) -> list[str]:
    """What the process that has torch says of a request, asked in this one."""
    plan = make_plan(read([*OWN, *overrides]))
    told = json.loads(json.dumps(question(plan.wanted(), plan, [])))
    return list(faults(**told))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "method=obert sparsity=2of4 sparsity.level=0.85 schedule=oneshot",
            "2of4 has a sparsity of 0.5 and no other; 0.85 was asked for",
        ),
        (
            "method=obert sparsity=block4 method.fisher_block_size=50 schedule=oneshot",
            "method.fisher_block_size 50 is not a multiple of 4",
        ),
        (
            "method=obert sparsity=2of4 schedule=oneshot method.num_recomputations=4",
            "method.num_recomputations=4 has no meaning. Set it to 1.",
        ),
        ("method=movement sparsity=unstructured schedule=oneshot", "Choose a schedule that trains"),
        ("method=l0 sparsity=unstructured schedule=oneshot", "Choose a schedule that trains"),
        ("method=platon sparsity=unstructured schedule=oneshot", "0 are taken before the last"),
        ("method=movement sparsity=2of4 schedule=movement", "Use a schedule with a single pruning"),
        ("method=magnitude sparsity=2of4 schedule=gradual_magnitude", "such as schedule=oneshot"),
        ("method=dense sparsity=unstructured schedule=oneshot", "method dense prunes nothing"),
    ],
)
def test_a_method_says_what_it_cannot_prune(words: str, says: str) -> None:
    (fault,) = found(*words.split())
    assert says in fault
    assert fault.startswith("stage '") and " on sst2: " in fault


@pytest.mark.parametrize(
    "words",
    [
        "method=obert sparsity=2of4 schedule=oneshot",
        "method=movement sparsity=unstructured schedule=movement",
        "method=l0 sparsity=2of4 schedule=l0",  # its groups are formed in the last step alone
        "method=soft_movement sparsity=2of4 schedule=soft_movement",
        "method=platon sparsity=block4 schedule=platon",
    ],
)
def test_what_a_method_can_prune_is_accepted(words: str) -> None:
    assert found(*words.split()) == []


@pytest.mark.parametrize("preset", ["demo", "paper"])
def test_every_cell_of_the_document_is_accepted(preset: str) -> None:
    """`plan` does not ask the child of what is shipped."""
    plan = make_plan(read([f"preset={preset}", "seeds=1"]))
    assert sum(len(steps) > 0 for steps in plan.pruning.values()) > 10
    assert list(faults(**json.loads(json.dumps(question(plan.wanted(), plan, []))))) == []


def test_the_child_is_asked_where_more_is_said_than_what_is_shipped() -> None:
    assert not restates(read(["table=5", "preset=paper", "seeds=1"]))
    assert restates(read(["method=obert", "method.damp=1"]))
    assert restates(read(["table=5", "preset.stages.dense.epochs=1"]))
    plan = make_plan(read([*OWN, "method=platon", "sparsity=block4", "schedule=oneshot"]))
    with pytest.raises(RequestError, match="stage 'oneshot' on sst2: PLATON"):
        check_stages(plan.wanted(), plan, [])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("schedule=oneshot task.max_length=128", "up to 128 tokens and the model takes 64"),
        ("schedule=oneshot distill=kd_t2", "distill=kd_t2 has no effect"),
        ("schedule=dense", "schedule=dense prunes nothing"),
    ],
)
def test_a_plan_refuses(words: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        make_plan(read([*PRUNED, *words.split()]))


def test_a_schedule_that_distils_takes_it() -> None:
    assert make_plan(read([*PRUNED, "schedule=gradual", "distill=kd_t2"])).wanted()


@pytest.mark.parametrize(
    ("level", "says"),
    [("abc", "a number between 0 and 1"), ("1.5", "impossible"), ("[0.5,0.6]", "runs one level")],
)
def test_a_sparsity_that_is_none_is_refused(level: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        make_plan(read(["schedule=oneshot", *PRUNED, f"sparsity.level={level}"]))


def test_an_export_is_compared_with_an_export() -> None:
    chosen = ["table=0", "task=squad", "model=bert_large", "method=obert", "sparsity=unstructured"]
    words = [*chosen, "schedule=compound_large", "distill=kd_t5"]
    assert make_plan(read(words)).wanted()
    with pytest.raises(RequestError, match="stage 'export' .* no file to compare with. Use"):
        make_plan(read([*words, "schedule.stages.export.against=dense"]))
