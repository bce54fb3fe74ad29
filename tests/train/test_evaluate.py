"""Logits of sorted, padded batches are those of single rows, in the rows' own order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_bert import Toy, data_of, model_of

from obert_sweeps.task.heads import MaskedLanguage
from obert_sweeps.train.evaluate import evaluate, row_logits
from obert_sweeps.train.forward import Setup
from obert_sweeps.train.parts import by_length

CPU = torch.device("cpu")


class Unmasked(MaskedLanguage):
    name = "unmasked"


@given(lengths=st.lists(st.integers(1, 30), max_size=40), tokens=st.integers(1, 100))
def test_groups_hold_every_row_once_within_the_budget(lengths: list[int], tokens: int) -> None:
    groups = list(by_length(lengths, tokens))
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or max(lengths[i] for i in group) * len(group) <= tokens
    flat = [lengths[i] for group in groups for i in group]
    assert flat == sorted(lengths, reverse=True)


@pytest.mark.parametrize("head", ["classification", "regression", "span", "mlm"])
def test_each_row_has_the_logits_it_has_alone(head: str) -> None:
    task = Toy(head=head, rows=13)
    model = model_of(task, dropout=0.5)
    data = data_of(task)
    features = data.evaluation[0]
    if head == "mlm":  # masks are drawn in collating: take them out of the comparison
        task.head = Unmasked()
    collate = task.collate

    def with_segments(*given: Any) -> dict[str, torch.Tensor]:
        batch = collate(*given)
        return {**batch, "token_type_ids": batch["input_ids"] % 2}

    task.collate = with_segments  # type: ignore[method-assign]
    found = row_logits(model, data, features, Setup(CPU), tokens=40)
    assert model.training and len(found) == 13
    model.eval()
    for row, logits in zip(features.rows, found, strict=True):
        ids = torch.tensor([row["input_ids"]])
        alone = task.head.logits(model(input_ids=ids, token_type_ids=ids % 2))
        assert len(alone) == len(logits)
        for a, b in zip(alone, logits, strict=True):
            torch.testing.assert_close(a[0].detach(), b, rtol=1e-4, atol=1e-5)
            assert b.dtype == torch.float32 and not b.requires_grad


def test_a_model_is_evaluated_in_the_precision_of_its_training() -> None:
    task = Toy(rows=5)
    data = data_of(task)
    full, half = (
        torch.stack([row for (row,) in row_logits(model_of(task), data, data.evaluation[0], how)])
        for how in (Setup(CPU), Setup(CPU, precision="bf16"))
    )
    assert half.dtype == torch.float32 and 0 < float((half - full).abs().max()) < 0.1


def test_all_evaluation_splits_are_scored() -> None:
    task = Toy(rows=13)
    task.evaluation_splits = ("validation", "more")
    seen = []
    task.score = lambda features, logits: seen.append(features.split) or {features.split: 1.0}  # type: ignore[method-assign, func-returns-value]
    assert evaluate(model_of(task), data_of(task), Setup(CPU)) == {"validation": 1.0, "more": 1.0}
    assert seen == ["validation", "more"]


def test_a_task_may_score_less_than_its_logits() -> None:
    task = Toy(head="mlm", rows=13)

    def predictions(outputs: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor]:
        return (outputs.logits[..., 0] + 100.0 * batch["attention_mask"],)

    task.predictions = predictions  # type: ignore[attr-defined]
    data = data_of(task)
    found = row_logits(model_of(task), data, data.evaluation[0], Setup(CPU), tokens=40)
    for row, (only,) in zip(data.evaluation[0].rows, found, strict=True):
        assert only.shape == (len(row["input_ids"]),) and bool((only > 50).all())
