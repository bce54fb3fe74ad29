"""A task's rows as a stage uses them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from ..task.base import Features, Task
from .batches import Batches


class Data:
    """A task's features, read when first needed: one-shot pruning by magnitude needs no rows.

    `training_rows` gives those of training where they need not be tokenised anew.
    """

    def __init__(
        self,
        task: Task,
        tokenizer: Any,
        batch_size: int,
        seed: int,
        max_train_rows: int | None = None,
        max_eval_rows: int | None = None,
        group_by_length: int = 0,
        training_rows: Callable[[], Features] | None = None,
    ) -> None:
        self.task = task
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.seed = seed
        self.max_train_rows = max_train_rows
        self.max_eval_rows = max_eval_rows
        self.group_by_length = group_by_length
        self.training_rows = training_rows

    @property
    def pad_token_id(self) -> int:
        return int(self.tokenizer.pad_token_id or 0)

    @cached_property
    def train(self) -> Features:
        if self.training_rows is not None:
            return self.training_rows()
        return self.task.features("train", self.tokenizer, self.max_train_rows)

    @cached_property
    def evaluation(self) -> list[Features]:
        return [
            self.task.features(split, self.tokenizer, self.max_eval_rows)
            for split in self.task.evaluation_splits
        ]

    @cached_property
    def batches(self) -> Batches:
        return Batches(
            self.task,
            self.train,
            self.pad_token_id,
            self.batch_size,
            self.seed,
            self.group_by_length,
        )
