"""One optimiser step: forward, backward and update on one batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..model.quantize import begin_batch, ranges
from ..schema import StageError, Training
from ..task.heads import Batch, Head
from .forward import Setup, inputs, to_device
from .parallel import GradientSum
from .parts import micro_batches, shares
from .state import State
from .teacher import Teacher


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch says so: by its own class on a GPU, in words on a CPU."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(w in str(error) for w in words)


class Step:
    """Takes optimiser steps.

    loss = (1 - hardness) * task loss + hardness * distillation loss + the method's penalty, each a
    mean over the whole batch however it is cut into micro-batches and divided over the workers, who
    all get the same batch. With hardness 1 labels are not looked at.

    Where memory does not hold a micro-batch, `micro_batch` is halved for good and the batch taken
    again from its beginning, in twice as many parts; the log says so. The batch stays what it was.
    """

    def __init__(
        self,
        state: State,
        training: Training,
        head: Head,
        setup: Setup,
        teacher: Teacher | None = None,
        micro_batch: int | None = None,
    ) -> None:
        if training.distill is not None and teacher is None:
            raise StageError(
                "training.distill is set and the stage has no teacher among its parents"
            )
        self.model, self.method, self.optimizer = state.model, state.method, state.optimizer
        self.masks = state.masks
        self.distill = training.distill
        self.max_grad_norm = training.max_grad_norm
        self.head = head
        self.setup = setup
        self.teacher = teacher
        self.micro_batch = micro_batch
        self.ranges = [place for _, place in ranges(self.model)]
        self.trained = [p for part in self.optimizer.param_groups for p in part["params"]]
        self.add_up = GradientSum(self.trained, setup.group)

    def __call__(self, batch: Batch) -> Tensor:
        """Update the weights on a batch (on the CPU); its loss, a scalar left on the device."""
        begin_batch(self.ranges)
        while (total := self._gradients(batch)) is None:
            self._halve(batch)
            begin_batch(self.ranges, again=True)
        if self.setup.group.size > 1:
            total = self.add_up(total)
        penalty = self.method.penalty()  # the same at every worker, so not added up
        if penalty is not None:
            penalty.backward()
            total += penalty.detach()
        if self.method.for_good:
            self.masks.apply_to_gradients()
        if self.max_grad_norm:
            nn.utils.clip_grad_norm_(self.trained, self.max_grad_norm)
        self.optimizer.step()
        self.method.after_step()
        return total

    def _gradients(self, batch: Batch) -> Tensor | None:
        """Leave this worker's part of the gradients; its part of the loss. None: out of memory."""
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.setup.device)
        head, group = self.head, self.setup.group
        parts = list(micro_batches(batch, self.micro_batch, group.rank, group.size))
        by_label = shares([head.counted(part) for part in parts], head.counted(batch))
        by_teacher = shares(
            [head.counted_by_teacher(part) for part in parts], head.counted_by_teacher(batch)
        )
        try:
            for part, label_share, teacher_share in zip(parts, by_label, by_teacher, strict=True):
                loss = self._loss(to_device(part, self.setup.device), label_share, teacher_share)
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
        share = -(-len(batch["input_ids"]) // self.setup.group.size)
        rows = min(self.micro_batch or share, share)
        if rows == 1:
            raise StageError(
                "memory does not hold a single row of this model's training. Use"
                " task.max_length=128, or run it where there is more memory"
            )
        self.micro_batch = rows // 2
        self.optimizer.zero_grad(set_to_none=True)
        if self.setup.device.type == "cuda":
            torch.cuda.empty_cache()
        self.setup.note(
            f"{rows} rows at once do not fit in memory: from here on {self.micro_batch} at"
            f" once, with gradients added up. To begin so: cluster.micro_batch={self.micro_batch}"
        )

    def _loss(self, part: Batch, label_share: float, teacher_share: float) -> Tensor | None:
        """A micro-batch's part of the batch's loss; None if nothing in it counts."""
        hardness = self.distill.hardness if self.distill else 0.0
        terms: list[Tensor] = []
        with self.setup.autocast():
            outputs = self.model(**inputs(part))
            if hardness < 1 and label_share:
                terms.append((1 - hardness) * label_share * self.head.loss(outputs, part))
            if self.distill is not None and self.teacher is not None and hardness > 0:
                taught = self.teacher(part)
                student = self.head.logits(outputs)
        if self.distill is not None and hardness > 0:
            divergence = self.head.distillation_loss(
                student, taught, self.distill.temperature, part["attention_mask"]
            )
            terms.append(hardness * teacher_share * divergence)
        return sum(terms[1:], terms[0]) if terms else None
