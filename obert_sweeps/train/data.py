"""A task's rows as a stage uses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..task.base import Features, Task


@dataclass(eq=False)
class Data:
    """A task's features, read when first needed: one-shot pruning by magnitude needs no rows.

    `training_rows` gives those of training; None: all of the task's, tokenised anew.
    """

    task: Task
    tokenizer: Any
    training_rows: Callable[[], Features] | None = None
    max_eval_rows: int | None = None

    @property
    def pad_token_id(self) -> int:
        return int(self.tokenizer.pad_token_id or 0)

    @cached_property
    def train(self) -> Features:
        if self.training_rows is not None:
            return self.training_rows()
        return self.task.features("train", self.tokenizer)

    @cached_property
    def evaluation(self) -> list[Features]:
        return [
            self.task.features(split, self.tokenizer, self.max_eval_rows)
            for split in self.task.evaluation_splits
        ]
