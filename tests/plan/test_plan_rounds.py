"""Plans of the chains with rounds and of Prune OFA: the authors' numbers, seeds and parents."""

from __future__ import annotations

import pytest

from obert_sweeps.plan.dag import CellPlan, Plan, make_plan
from obert_sweeps.request.read import read
from obert_sweeps.schema import RequestError, Stage

LOTTERY = "t4/sst2/bert_base/lottery/90"
OWN = ["table=0", "task=sst2", "model=bert_base", "sparsity=unstructured", "tracker=none"]


def plan(*overrides: str) -> Plan:
    return make_plan(read(list(overrides)))


def by_role(planned: Plan, cell: CellPlan) -> dict[str, Stage]:
    return {s.tags["role"]: s for i in cell.stages if (s := planned.stages[i])}


@pytest.fixture(scope="module")
def paper() -> Plan:
    return plan("preset=paper", "seeds=1", "cells=['t4/*','t2/*']")


@pytest.fixture(scope="module")
def lottery(paper: Plan) -> dict[str, Stage]:
    return by_role(paper, paper.cells[LOTTERY])


def test_a_ticket_of_90_per_cent_takes_nine_rounds(lottery: dict[str, Stage]) -> None:
    """BERT-Tickets: round k prunes 1 / (10 - k) of what is left, ten points of the whole."""
    assert list(lottery) == [*(f"round_{k}" for k in range(9)), "ticket"]
    left = 1.0
    for k, stage in enumerate(list(lottery.values())[1:]):
        left -= left / (10 - k)
        assert stage.recipe["sparsity"]["level"] == pytest.approx(1 - left, abs=1e-12)
        assert stage.parents == {"start": lottery[f"round_{k}"].id}  # rewinds to the checkpoint
        assert stage.identity["weights"] == lottery["round_0"].identity["weights"]
        assert stage.recipe["training"]["prune_also"] == ["pooler.dense"]
    assert lottery["round_0"].recipe["sparsity"]["pattern"] == "dense"


def test_rounds_and_tickets_train_as_published(lottery: dict[str, Stage]) -> None:
    for role, stage in lottery.items():
        training = stage.recipe["training"]
        assert (training["epochs"], training["batch_size"]) == (3, 32)
        (line,) = training["learning_rate"]
        # A line to zero over thirty epochs, of which a round sees three.
        left = 0.0 if role == "ticket" else 2e-5 * (1 - 3 / 30)
        assert (line["until"], line["initial"]) == (3, 2e-5)
        assert line["final"] == pytest.approx(left, rel=1e-12)


def test_seeds_vary_the_rounds_too(lottery: dict[str, Stage]) -> None:
    stages = plan("preset=paper", "seeds=2", f"cells={LOTTERY}").cells[LOTTERY].stages
    assert len(stages) == 20 and {s.id for s in lottery.values()} < set(stages)


def test_a_stand_in_rewinds_to_the_language_model_and_a_lower_target_takes_fewer_rounds() -> None:
    lower = plan(*OWN, "method=lottery", "schedule=lottery", "sparsity.level=0.65")
    (cell,) = lower.selected()
    roles = by_role(lower, cell)
    assert list(roles) == ["pretrain", *(f"round_{k}" for k in range(7)), "ticket"]
    for k in range(1, 7):
        assert roles[f"round_{k}"].parents["rewind"] == roles["pretrain"].id
        assert roles[f"round_{k}"].recipe["sparsity"]["level"] == pytest.approx(k / 10)
    assert roles["ticket"].recipe["sparsity"]["level"] == 0.65


def test_rewinding_after_the_beginning_is_refused() -> None:
    later = "schedule.stages.ticket.pruning.end=1"
    with pytest.raises(RequestError, match=r"'ticket'.*rewinds.*pruning\.start"):
        plan(*OWN, "method=lottery", "schedule=lottery", "preset=paper", later)


def test_prune_ofa_prunes_and_transfers_as_published(paper: Plan) -> None:
    """Intel's 100,000 steps of 256 rows: the cubic up to 50,000, each 1,000."""
    roles = by_role(paper, paper.cells["t4/qnli/bert_base/prune_ofa/90"])
    before = ["upstream_dense", "ofa_upstream", "dense", "teacher_logits"]
    assert list(roles) == [*before, "ofa_transfer"]
    shared = by_role(paper, paper.cells["t4/qnli/bert_base/obert/90"])
    assert shared["upstream_dense"].id == roles["upstream_dense"].id
    up, down = roles["ofa_upstream"], roles["ofa_transfer"]
    training = up.recipe["training"]
    per_epoch = 8_000_000 // 256
    assert training["epochs"] * per_epoch == pytest.approx(100_000)
    steps = {k: training["pruning"][k] * per_epoch for k in ("start", "end", "every")}
    assert steps == pytest.approx({"start": 0, "end": 50_000, "every": 1_000})
    assert up.parents["teacher"] == up.parents["start"] == roles["upstream_dense"].id
    assert training["distill"] == {"hardness": 0.5, "temperature": 2.0}
    assert up.recipe["method"]["scope"] == "tensor"
    training = down.recipe["training"]
    assert (training["epochs"], training["lock_pattern"]) == (9, True)
    assert training["distill"] == {"hardness": 1.0, "temperature": 2.0}
    assert training["prune_also"] == ["pooler.dense"]


def test_prune_ofa_rewinds_the_rate_as_published(paper: Plan) -> None:
    """Against the authors' rule, step by step: api_utils.py of the repository."""
    from obert_sweeps.schema import Training
    from obert_sweeps.train.learning_rate import learning_rate

    roles = by_role(paper, paper.cells["t4/qnli/bert_base/prune_ofa/90"])
    pieces = Training.from_dict(roles["ofa_upstream"].recipe["training"]).learning_rate

    def published(step: int) -> float:
        warm, whole, end, every = 1_000, 100_000, 50_000, 1_000
        after = whole - end
        if step < warm:
            return step / warm
        if step < end:
            return (after - step + step // every * every) / (after - warm)
        return (whole - step) / (after - warm)

    for step in (0, 500, 999, 1_000, 1_500, 1_999, 2_000, 49_999, 50_000, 70_000, 99_000):
        ours = learning_rate(pieces, step, 31_250) / 5e-5
        assert ours == pytest.approx(published(step), abs=2e-3), step
