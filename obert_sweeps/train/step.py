"""One optimiser step: forward, backward and update on one batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from ..method.base import Method
from ..schema import Distillation, StageError
from ..task.base import Task
from ..worker_group import ALONE, WorkerGroup
from .batches import Batch, counted, counted_by_teacher, inputs, micro_batches, shares, to_device
from .distill import distillation_loss
from .parallel import GradientSum
from .teacher import Teacher


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """What forward passes run in. Precision is part of the recipe, never the machine's choice."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch says so: by its own class on a GPU, in words on a CPU."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(w in str(error) for w in words)


class Step:
    """Takes optimiser steps.

    loss = (1 - hardness) * task loss + hardness * distillation loss + the method's penalty, each a
    mean over the whole batch however it is cut into micro-batches and divided over the workers of
    `group`, who all get the same batch. With hardness 1 labels are not looked at.

    Where memory does not hold a micro-batch, `micro_batch` is halved for good and the batch taken
    again from its beginning, in twice as many parts; `note` is told. The batch stays what it was.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        optimizer: torch.optim.Optimizer,
        method: Method,
        *,
        device: torch.device,
        teacher: Teacher | None = None,
        distill: Distillation | None = None,
        max_grad_norm: float = 0.0,
        micro_batch: int | None = None,
        precision: str = "fp32",
        group: WorkerGroup = ALONE,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        if distill is not None and teacher is None:
            raise StageError(
                "training.distill is set and the stage has no teacher among its parents"
            )
        self.model = model
        self.task = task
        self.optimizer = optimizer
        self.method = method
        self.device = device
        self.teacher = teacher
        self.distill = distill
        self.max_grad_norm = max_grad_norm
        self.micro_batch = micro_batch
        self.precision = precision
        self.group = group
        self.note = note
        self.trained = [p for part in optimizer.param_groups for p in part["params"]]
        self.add_up = GradientSum(self.trained, group)

    def __call__(self, batch: Batch) -> Tensor:
        """Update the weights on a batch (on the CPU); its loss, a scalar left on the device."""
        while (total := self._gradients(batch)) is None:
            self._halve(batch)
        if self.group.size > 1:
            total = self.add_up(total)
        penalty = self.method.penalty()  # the same at every worker, so not added up
        if penalty is not None:
            penalty.backward()
            total += penalty.detach()
        if self.max_grad_norm:
            nn.utils.clip_grad_norm_(self.trained, self.max_grad_norm)
        self.optimizer.step()
        self.method.after_step()
        return total

    def _gradients(self, batch: Batch) -> Tensor | None:
        """Leave this worker's part of the gradients; its part of the loss. None: out of memory."""
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        head, group = self.task.head, self.group
        parts = list(micro_batches(batch, self.micro_batch, group.rank, group.size))
        by_label = shares([counted(head, part) for part in parts], counted(head, batch))
        by_teacher = shares(
            [counted_by_teacher(head, part) for part in parts], counted_by_teacher(head, batch)
        )
        try:
            for part, label_share, teacher_share in zip(parts, by_label, by_teacher, strict=True):
                loss = self._loss(to_device(part, self.device), label_share, teacher_share)
                if loss is not None:
                    loss.backward()
                    total += loss.detach()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None
        return total

    def _halve(self, batch: Batch) -> None:
        """Half as many rows at once, from here on. StageError where it is one row already."""
        share = -(-len(batch["input_ids"]) // self.group.size)
        rows = min(self.micro_batch or share, share)
        if rows == 1:
            raise StageError(
                "memory does not hold a single row of this model's training. Say"
                " task.max_length=128, or run it where there is more memory"
            )
        self.micro_batch = rows // 2
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.note(
            f"{rows} rows at once do not fit in memory: from here on {self.micro_batch} at"
            f" once, with gradients added up. To begin so: cluster.micro_batch={self.micro_batch}"
        )

    def _loss(self, part: Batch, label_share: float, teacher_share: float) -> Tensor | None:
        """A micro-batch's part of the batch's loss; None if nothing in it counts."""
        hardness = self.distill.hardness if self.distill else 0.0
        terms: list[Tensor] = []
        with autocast(self.device, self.precision):
            outputs = self.model(**inputs(part))
            if hardness < 1 and label_share:
                terms.append((1 - hardness) * label_share * self.task.loss(outputs, part))
            if self.distill is not None and self.teacher is not None and hardness > 0:
                taught = self.teacher(part)
                student = self.task.logits(outputs)
        if self.distill is not None and hardness > 0:
            divergence = distillation_loss(
                student, taught, self.distill.temperature, self.task.head, part["attention_mask"]
            )
            terms.append(hardness * teacher_share * divergence)
        return sum(terms[1:], terms[0]) if terms else None
