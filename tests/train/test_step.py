"""One optimiser step: accumulation, clipping, rates, parameter groups, labels that do not leak."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_bert import Toy, batches_of, encoder, model_of

from obert_sweeps.method.base import Method
from obert_sweeps.model.quantize import quantize
from obert_sweeps.schema import Distillation, LearningRatePiece, StageError, Training
from obert_sweeps.sparsity.mask import Masks
from obert_sweeps.train.adamax import Adamax
from obert_sweeps.train.forward import Setup, inputs
from obert_sweeps.train.optim import freeze, make_optimizer, set_learning_rate
from obert_sweeps.train.state import State
from obert_sweeps.train.step import Step
from obert_sweeps.train.teacher import LiveTeacher

TRAINING = Training(epochs=1, batch_size=8, learning_rate=[LearningRatePiece(1, 0.01, 0.0)])
CPU = torch.device("cpu")


def step_of(
    model: Any,
    task: Toy,
    training: Training = TRAINING,
    *,
    method: Method | None = None,
    teacher: Any = None,
    micro_batch: int | None = None,
    max_grad_norm: float = 0.0,
    masks: Masks | None = None,
    **setup: Any,
) -> Step:
    method, masks = method or Method(), masks or Masks({})
    if isinstance(teacher, torch.nn.Module):
        teacher = LiveTeacher(teacher, task.head)
    optimizer = make_optimizer(training, model, method.attach({}, masks))
    set_learning_rate(optimizer, training.learning_rate, 0, 10)
    state = State(model, masks, method, optimizer)
    training = replace(training, max_grad_norm=max_grad_norm)
    return Step(state, training, task.head, Setup(CPU, **setup), teacher, micro_batch)


def gradients(step: Step, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    step.optimizer.step = lambda: None  # type: ignore[method-assign, assignment]
    step(batch)
    return [p.grad.clone() for p in step.trained if p.grad is not None]


@pytest.mark.parametrize("head", ["classification", "regression", "span", "mlm"])
@pytest.mark.parametrize("hardness", [None, 0.5, 1.0])
def test_accumulation_equals_one_batch(head: str, hardness: float | None) -> None:
    task = Toy(head=head, rows=23)
    batch = batches_of(task, 23)(0)
    distill = None if hardness is None else Distillation(hardness, 2.0)
    training = replace(TRAINING, batch_size=23, distill=distill)
    teacher = model_of(task, seed=9)
    found, losses = [], []
    for micro_batch in (None, 5, 1):
        step = step_of(model_of(task), task, training, teacher=teacher, micro_batch=micro_batch)
        losses.append(float(step(batch)))
        found.append(gradients(step, batch))
    for other in found[1:]:
        assert len(other) == len(found[0]) > 30
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-4)


def test_a_step_does_not_see_the_gradients_of_the_one_before() -> None:
    task = Toy(rows=9)
    step = step_of(model_of(task), task)
    first, again = (gradients(step, batches_of(task, 9)(0)) for _ in range(2))
    assert len(first) > 30 and all(map(torch.equal, first, again))


def test_hardness_mixes_the_two_losses() -> None:
    task = Toy(rows=9)
    batch = batches_of(task, 9)(0)
    teacher = model_of(task, seed=9)

    def loss(hardness: float) -> float:
        training = replace(TRAINING, distill=Distillation(hardness, 2.0))
        return float(step_of(model_of(task), task, training, teacher=teacher)(batch))

    labels = float(step_of(model_of(task), task)(batch))
    assert loss(0.0) == pytest.approx(labels)
    assert loss(0.3) == pytest.approx(0.7 * labels + 0.3 * loss(1.0), rel=1e-5)
    assert loss(1.0) != pytest.approx(labels, rel=0.01)


def test_the_teachers_part_is_how_far_the_student_is_from_it() -> None:
    """T² KL(teacher_T || student_T), from the two models' own logits."""
    task = Toy(rows=9)
    batch = batches_of(task, 9)(0)
    models = student, teacher = model_of(task), model_of(task, seed=9)
    with torch.no_grad():
        q, p = ((m(**inputs(batch)).logits.double() / 3).softmax(-1) for m in models)
    training = replace(TRAINING, distill=Distillation(1.0, 3.0))
    found = float(step_of(student, task, training, teacher=teacher)(batch))
    assert found == pytest.approx(9 * float((p * (p / q).log()).sum(-1).mean()), rel=1e-4)


def test_with_hardness_one_labels_are_not_looked_at() -> None:
    task = Toy(rows=9)
    training = replace(TRAINING, distill=Distillation(1.0, 2.0))
    weights = []
    for flip in (False, True):
        model = model_of(task)
        batch = batches_of(task, 9)(0)
        if flip:
            batch["labels"] = 1 - batch["labels"]
        step = step_of(model, task, training, teacher=model_of(task, seed=9))
        for _ in range(3):
            step(batch)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    del batch["labels"]
    step(batch)


def test_the_teacher_is_in_eval_mode_and_stays_as_it_is() -> None:
    task = Toy(rows=9)
    teacher = model_of(task, seed=9, dropout=0.5)
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    training = replace(TRAINING, distill=Distillation(1.0, 2.0))
    batch = batches_of(task, 9)(0)
    losses = set()
    for seed in range(2):
        step = step_of(model_of(task), task, training, teacher=teacher)
        torch.manual_seed(seed)
        losses.add(float(step(batch)))
    assert len(losses) == 1  # dropout in the teacher would make them differ
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())


def test_distillation_without_a_teacher_is_refused() -> None:
    task = Toy()
    with pytest.raises(StageError, match="no teacher"):
        step_of(model_of(task), task, replace(TRAINING, distill=Distillation(1.0, 2.0)))


def test_clipping_holds_the_norm_of_all_gradients_together() -> None:
    task = Toy(rows=9)
    batch = batches_of(task, 9)(0)

    def flat(limit: float) -> torch.Tensor:
        step = step_of(model_of(task), task, max_grad_norm=limit)
        return torch.cat([g.flatten() for g in gradients(step, batch)]).double()

    free, clipped, loose = flat(0.0), flat(0.05), flat(1e6)
    assert float(free.norm()) > 0.1
    assert float(clipped.norm()) == pytest.approx(0.05, rel=1e-4)
    torch.testing.assert_close(clipped, free * 0.05 / free.norm(), rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(loose, free, rtol=0, atol=0)


class Penalty(Method):
    """Pulls a parameter of its own, and sees the gradients of the step just taken."""

    def attach(self, layers: Any, masks: Masks) -> list[dict[str, Any]]:
        self.score = torch.nn.Parameter(torch.tensor(3.0))
        self.seen: list[float] = []
        self.left = 3.0  # of the parameter after the step
        return [{"params": [self.score], "lr": 0.5}]

    def penalty(self) -> torch.Tensor:
        return 2 * self.score

    def after_step(self) -> None:
        assert self.score.grad is not None
        self.seen.append(float(self.score.grad))
        self.left = float(self.score.detach())


def test_a_methods_penalty_is_added_and_its_parameters_are_trained() -> None:
    task, method = Toy(rows=9), Penalty()
    batch = batches_of(task, 9)(0)
    step = step_of(model_of(task), task, method=method)
    with_penalty = float(step(batch))
    assert with_penalty == pytest.approx(6 + float(step_of(model_of(task), task)(batch)), rel=1e-5)
    assert method.seen == [2.0]
    moved = float(method.score.detach())
    assert moved == pytest.approx(3.0 - 0.5, rel=1e-4)  # Adam's first step is its rate
    assert method.left == moved


def test_a_methods_gradients_are_clipped_with_the_others() -> None:
    task, method = Toy(rows=9), Penalty()
    batch = batches_of(task, 9)(0)
    of_the_loss = torch.cat([g.flatten() for g in gradients(step_of(model_of(task), task), batch)])
    step_of(model_of(task), task, method=method, max_grad_norm=0.05)(batch)
    whole = math.hypot(float(of_the_loss.norm()), 2.0)
    assert method.seen == pytest.approx([2.0 * 0.05 / whole], rel=1e-4)


def test_rates_follow_the_schedule_and_a_methods_own_in_proportion() -> None:
    pieces = [LearningRatePiece(1, 0.1, 0.3), LearningRatePiece(2, 0.4, 0.0)]
    own = torch.nn.Parameter(torch.zeros(2, 2))
    model = torch.nn.Linear(3, 2)
    other = torch.nn.Parameter(torch.zeros(1))
    groups = [{"params": [own], "lr": 8.0}, {"params": [other], "weight_decay": 0.3}]
    optimizer = make_optimizer(replace(TRAINING, weight_decay=0.1), model, groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0, 0.0, 0.3]
    seen = []
    for step in range(6):
        assert set_learning_rate(optimizer, pieces, step, 3) == optimizer.param_groups[0]["lr"]
        seen.append([round(g["lr"], 9) for g in optimizer.param_groups])
    main = [0.1, 0.2, 0.3, 0.4, 0.2, 0.0]
    assert seen == [[r, r, round(8.0 * r / 0.4, 9), r] for r in main]


@pytest.mark.parametrize("name", ["adamw", "adamax"])
def test_biases_and_norms_are_not_decayed(name: str) -> None:
    task = Toy()
    training = replace(TRAINING, weight_decay=0.1, optimizer=name)
    model = model_of(task)
    step = step_of(model, task, training)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    before = {k: v.clone() for k, v in model.named_parameters()}
    step.optimizer.zero_grad()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    step.optimizer.step()
    moved = {k for k, v in model.named_parameters() if not torch.equal(v, before[k])}
    assert moved == {k for k in before if "LayerNorm" not in k and not k.endswith("bias")}
    assert isinstance(step.optimizer, torch.optim.AdamW if name == "adamw" else Adamax)


def test_adamw_is_the_published_update() -> None:
    """Two steps of decoupled weight decay against float64, as Loshchilov & Hutter write it."""
    training = replace(TRAINING, weight_decay=0.01)
    model = torch.nn.Linear(4, 3, bias=False)
    optimizer = make_optimizer(training, model, [])
    set_learning_rate(optimizer, training.learning_rate, 0, 10)
    w, m, v = model.weight.detach().double(), 0.0, 0.0
    for t in (1, 2):
        g = torch.randn(3, 4)
        model.weight.grad = g.clone()
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g.double(), 0.999 * v + 0.001 * g.double() ** 2
        w = w - 0.01 * 0.01 * w
        w = w - 0.01 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    torch.testing.assert_close(model.weight.detach().double(), w, rtol=1e-5, atol=1e-6)


def test_masks_hold_under_the_optimisers_momentum() -> None:
    task = Toy(rows=24)
    model = model_of(task)
    layers = encoder().prunable(model)
    step = step_of(model, task)
    batches = batches_of(task, 8)
    masks = Masks(layers)
    for i in range(3):
        step(batches(i))  # momentum builds up for all weights
    masks.replace({n: torch.rand_like(x.weight) > 0.5 for n, x in layers.items()})
    masks.apply()
    for i in range(3, 6):
        step(batches(i))
        with pytest.raises(StageError):
            masks.check()  # momentum has moved pruned weights
        masks.apply()
        masks.check()


def test_frozen_parameters_do_not_move() -> None:
    task = Toy(rows=9)
    model = model_of(task)
    freeze(model, ["word_embeddings", "encoder.layer.0."])
    before = {k: v.clone() for k, v in model.named_parameters()}
    step = step_of(model, task)
    step(batches_of(task, 9)(0))
    still = {k for k, v in model.named_parameters() if torch.equal(v, before[k])}
    assert still == {k for k in before if "word_embeddings" in k or "encoder.layer.0." in k}
    with pytest.raises(StageError, match="'embedings'"):
        freeze(model, ["embedings"])


def test_bf16_is_an_autocast() -> None:
    task = Toy(rows=9)
    batch = batches_of(task, 9)(0)
    model = model_of(task)
    full = float(step_of(model_of(task), task)(batch))
    half = float(step_of(model, task, precision="bf16")(batch))
    assert half == pytest.approx(full, rel=0.05) and half != full
    assert {p.dtype for p in model.parameters()} == {torch.float32}


class Small(torch.nn.Module):
    """A model on a device that holds so many rows at once."""

    def __init__(self, model: Any, rows: int, error: Exception) -> None:
        super().__init__()
        self.model, self.rows, self.error = model, rows, error
        self.seen: list[int] = []

    def forward(self, **given: torch.Tensor) -> Any:
        self.seen.append(len(given["input_ids"]))
        outputs = self.model(**given)
        if self.seen[-1] > self.rows:
            raise self.error  # late: what passes leave in the model is there
        return outputs


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate"
        " memory: you tried to allocate 4 bytes. Error code 12 (Cannot allocate memory)"
    ),
]


def pruned(model: Any, share: float) -> Masks:
    draw = torch.Generator().manual_seed(3)
    layers = encoder().prunable(model)
    keep = {n: torch.rand(m.weight.shape, generator=draw) >= share for n, m in layers.items()}
    masks = Masks(layers, keep)
    masks.apply()
    return masks


@pytest.mark.parametrize("for_good", [True, False])
def test_gradients_of_what_is_pruned_for_good_do_not_count_where_they_are_clipped(
    for_good: bool,
) -> None:
    task, limit = Toy(rows=9), 0.05
    batch = batches_of(task, 9)(0)

    def taken(**how: Any) -> dict[str, torch.Tensor]:
        model, method = model_of(task), Method()
        masks = pruned(model, 0.7)
        method.for_good = for_good  # type: ignore[misc]
        step = step_of(model, task, method=method, masks=masks, **how)
        step.optimizer.step = lambda: None  # type: ignore[method-assign, assignment]
        step(batch)
        return {n: p.grad.double() for n, p in model.named_parameters() if p.grad is not None}

    model = model_of(task)
    keep = {f"{n}.weight": mask for n, mask in pruned(model, 0.7).keep.items()}
    masked = step_of(model, task)  # the same weights, and nothing known of masks
    masked.optimizer.step = lambda: None  # type: ignore[method-assign, assignment]
    masked(batch)
    whole = {n: p.grad.double() for n, p in model.named_parameters() if p.grad is not None}
    assert len(keep) > 5 and keep.keys() <= whole.keys()
    wanted = {n: g * keep[n] if for_good and n in keep else g for n, g in whole.items()}
    norm = torch.stack([g.square().sum() for g in wanted.values()]).sum().sqrt()
    assert norm > 2 * limit
    found = taken(max_grad_norm=limit)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient * limit / norm, rtol=1e-4, atol=1e-8)


def ranges_after(
    task: Toy, small: int | None = None, micro_batch: int | None = None
) -> list[float]:
    """The INT8 ranges after two steps; a pass over more than `small` rows is out of memory."""
    model = model_of(task)
    quantize(model)
    given = model if small is None else Small(model, small, OUT_OF_MEMORY[0])
    step = step_of(given.train(), task, replace(TRAINING, batch_size=12), micro_batch=micro_batch)
    for place in step.ranges:
        place.averaging = min(1.0, 20 * place.averaging)  # so that two steps tell
    for i in range(2):
        step(batches_of(task, 12)(i))
    return [float(end) for place in step.ranges for end in (place.low, place.high)]


def test_ranges_follow_whole_batches_however_they_are_cut() -> None:
    task = Toy(rows=24)
    whole = ranges_after(task)
    assert len(whole) > 40
    for found in (ranges_after(task, micro_batch=5), ranges_after(task, small=4)):
        # Parts before the last are quantised by a range that has not seen the rest.
        assert found == pytest.approx(whole, rel=0.05, abs=1e-3)


def test_a_try_that_memory_does_not_hold_leaves_nothing_in_the_ranges() -> None:
    def after(failing: bool) -> list[float]:
        task = Toy(rows=24)
        model = model_of(task)
        quantize(model)
        small = Small(model, 6, OUT_OF_MEMORY[0]).train()
        step = step_of(small, task, replace(TRAINING, batch_size=12), micro_batch=6)
        for i in range(2):
            for place in step.ranges:
                place.averaging = 0.5
            step(batches_of(task, 12)(i))
            step.micro_batch = 12 if failing else 6
        return [float(end) for place in step.ranges for end in (place.low, place.high)]

    assert after(failing=True) == after(failing=False)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["gpu", "cpu"])
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_batch(error: Exception) -> None:
    task = Toy(rows=40)
    batches = [batches_of(task, 20)(i) for i in range(2)]  # the second sees the update
    plain = step_of(model_of(task), task)
    expected = [float(plain(batch)) for batch in batches]
    notes: list[str] = []
    small = Small(model_of(task), 7, error)
    step = step_of(small, task, note=notes.append)
    assert [float(step(batch)) for batch in batches] == pytest.approx(expected, rel=1e-5)
    # Twice too much, then in parts; the second batch in parts at once.
    assert small.seen == [20, 10, 5, 5, 5, 5, 5, 5, 5, 5]
    assert step.micro_batch == 5 and len(notes) == 2 and "from here on 5" in notes[1]


def test_a_part_that_failed_leaves_nothing_in_the_gradients() -> None:
    task = Toy(rows=12)
    batch = batches_of(task, 12)(0)
    wanted = gradients(step_of(model_of(task), task), batch)

    class Once(Small):
        def forward(self, **given: torch.Tensor) -> Any:
            self.seen.append(len(given["input_ids"]))
            if len(self.seen) == 2:  # when the first part is done and has its gradients
                raise self.error
            return self.model(**given)

    step = step_of(Once(model_of(task), 12, OUT_OF_MEMORY[0]), task, micro_batch=4)
    for a, b in zip(wanted, gradients(step, batch), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_memory_that_holds_no_row_is_a_failure_and_other_errors_are_not_taken_for_it() -> None:
    task = Toy(rows=4)
    batch = batches_of(task, 4)(0)
    with pytest.raises(StageError, match="a single row"):
        step_of(Small(model_of(task), 0, OUT_OF_MEMORY[0]), task)(batch)
    other = Small(model_of(task), 0, RuntimeError("expected scalar type Float"))
    with pytest.raises(RuntimeError, match="scalar type"):
        step_of(other, task)(batch)
    assert other.seen == [4]
