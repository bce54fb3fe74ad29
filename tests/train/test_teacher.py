"""What the teacher once said of each row is what it says when it is called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_step import CPU, TRAINING, gradients, step_of
from tiny_bert import Toy, data_of, model_of

from obert_sweeps.schema import Distillation
from obert_sweeps.train.batches import Batches
from obert_sweeps.train.evaluate import row_logits
from obert_sweeps.train.forward import Setup
from obert_sweeps.train.parts import micro_batches
from obert_sweeps.train.teacher import (
    KnownLogits,
    LiveTeacher,
    identity_in,
    load_logits,
    rows_digest,
    save_logits,
)

HEADS = ["classification", "regression", "span"]


def known(task: Toy, teacher: Any, data: Any, file: Path) -> KnownLogits:
    said = row_logits(
        teacher, data, data.train, Setup(CPU), read=lambda out, _: task.head.logits(out)
    )
    save_logits(file, said, task.head.per_token, "of these rows")
    return load_logits(file, CPU)


@pytest.mark.parametrize("head", HEADS)
def test_losses_and_gradients_are_those_of_the_teacher_itself(head: str, tmp_path: Path) -> None:
    task = Toy(head=head, rows=23)
    teacher, data = model_of(task, seed=9, dropout=0.5), data_of(task)
    batches = Batches(data, 7, 0)
    training = replace(TRAINING, distill=Distillation(0.7, 2.0))
    cached = known(task, teacher, data, tmp_path / "logits.safetensors")
    for step_number, micro_batch in ((0, None), (2, 3), (3, None)):  # the last: two rows
        batch = batches(step_number)
        found = []
        for source in (LiveTeacher(teacher, task.head), cached):
            step = step_of(model_of(task), task, training, teacher=source, micro_batch=micro_batch)
            found.append((float(step(batch)), gradients(step, batch)))
        assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
        for a, b in zip(found[0][1], found[1][1], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_each_row_of_a_batch_gets_its_own_logits(head: str, tmp_path: Path) -> None:
    """Against logits that say which row and token they are of."""
    data = data_of(Toy(head=head, rows=20))
    batches = Batches(data, 6, 0)
    lengths = [len(row["input_ids"]) for row in data.train.rows]
    said = [
        tuple(
            1000.0 * row + 100.0 * part + torch.arange(n if head == "span" else 3)
            for part in range(2)
        )
        for row, n in enumerate(lengths)
    ]
    save_logits(tmp_path / "said.safetensors", said, head == "span", "x")
    teacher = load_logits(tmp_path / "said.safetensors", CPU)
    for step in range(batches.steps_per_epoch):
        for part in micro_batches(batches(step), 4):
            for head_number, tensor in enumerate(teacher(part)):
                for place, row in enumerate(part["rows"].tolist()):
                    expected = said[row][head_number]
                    assert torch.equal(tensor[place, : len(expected)], expected)
                    assert not tensor[place, len(expected) :].any()


def test_the_file_says_whose_logits_it_holds(tmp_path: Path) -> None:
    save_logits(tmp_path / "a", [(torch.zeros(2),)], False, "this teacher, these rows")
    assert identity_in(tmp_path / "a") == "this teacher, these rows"


def test_the_digest_of_rows_sees_every_token_the_cuts_and_the_order() -> None:
    def rows(*ids: list[int], segment: int = 0) -> list[dict[str, Any]]:
        return [{"input_ids": i, "token_type_ids": [segment] * len(i), "labels": 0} for i in ids]

    different = [
        rows([1, 2], [3]),
        rows([1], [2, 3]),
        rows([3], [1, 2]),
        rows([1, 2], [4]),
        rows([1, 2, 3]),
        rows([1, 2], [3], segment=1),
    ]
    assert len({rows_digest(r) for r in different}) == len(different)
    other_label = [{**row, "labels": 1} for row in different[0]]
    assert rows_digest(other_label) == rows_digest(different[0])
