"""SQuAD v1.1: an answer is a span of the context."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from ..schema import RequestError, StageError
from .base import Features, Task
from .heads import Batch, Logits, Span
from .padding import model_inputs
from .sources import row_source
from .squad_answers import Window, best_text, exact_match, f1

COLUMNS = ["id", "question", "context", "answers"]


@dataclass
class References:
    """Contexts and gold answers by example, and the windows in the order of the features' rows."""

    contexts: list[str]
    answers: list[list[str]]
    windows: list[Window]


class Squad(Task):
    """Windows of at most `max_length` tokens that overlap by `doc_stride`, as the paper's scripts.

    A question is cut to `max_query_length` tokens. `labels` of a row are the answer's first and
    last token in the window, or 0, 0 (the [CLS] token) where the window does not hold it whole.
    Raises RequestError for values that leave no room for a context.
    """

    head = Span()
    num_labels = 2
    evaluation_splits = ("validation",)

    def __init__(
        self,
        *,
        name: str,
        hub: str | None,
        hub_config: str | None,
        revision: str | None,
        data: str,
        source: str,
        folder: str | None,
        metrics: list[str],
        best_metric: str,
        max_length: int,
        doc_stride: int,
        max_query_length: int,
        max_answer_length: int,
        n_best: int,
        official_rows: Mapping[str, int],
        generator: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.metrics = tuple(metrics)
        self.best_metric = best_metric
        self.max_length = max_length
        self.doc_stride = doc_stride
        self.max_query_length = max_query_length
        self.max_answer_length = max_answer_length
        self.n_best = n_best
        self._check_values()
        self.source = row_source(
            task=name,
            source=source,
            hub=hub,
            hub_config=hub_config,
            revision=revision,
            folder=folder,
            generator=generator,
        )

    def features(
        self, split: str, tokenizer: PreTrainedTokenizerBase, max_rows: int | None = None
    ) -> Features:
        """Windows of the split's examples. `notes`: examples, and answers not where they say.

        An answer whose `answer_start` does not point at its text is left out of training.
        """
        rows = self.source.rows(split, COLUMNS, max_rows)
        spans = [self._answer_span(row, place, split) for place, row in enumerate(rows)]
        misplaced = [place for place, span in enumerate(spans) if span is None]
        if split == "train":
            rows = [row for row, span in zip(rows, spans, strict=True) if span is not None]
            spans = [span for span in spans if span is not None]
            if not rows:
                raise StageError(
                    f"task {self.name}, split {split}: no answer_start points at its answer's text."
                    " Mend the file, or name other data: data_root=DIR"
                )
        encoded = tokenizer(
            self._questions([row["question"] for row in rows], tokenizer),
            [row["context"] for row in rows],
            truncation="only_second",
            max_length=self.max_length,
            stride=self.doc_stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_token_type_ids=True,
        )
        features, windows = [], []
        for place, example in enumerate(encoded["overflow_to_sample_mapping"]):
            window = _window(encoded, place, example)
            windows.append(window)
            features.append(
                {
                    "input_ids": encoded["input_ids"][place],
                    "token_type_ids": encoded["token_type_ids"][place],
                    "labels": _label(window, spans[example]),
                }
            )
        contexts = [row["context"] for row in rows]
        answers = [list(row["answers"]["text"]) for row in rows]
        notes = {"examples": len(rows), "misplaced_answers": len(misplaced)}
        return Features(split, features, References(contexts, answers, windows), notes)

    def remark(self, notes: Mapping[str, Any]) -> str | None:
        misplaced = notes.get("misplaced_answers", 0)
        return f"answers not where they say, left out: {misplaced}" if misplaced else None

    def collate(
        self, rows: list[dict[str, Any]], pad_token_id: int, generator: torch.Generator
    ) -> Batch:
        """`labels` is (B, 2): first and last token of the answer."""
        batch = model_inputs(rows, pad_token_id)
        batch["labels"] = torch.tensor([row["labels"] for row in rows], dtype=torch.int64)
        return batch

    def score(self, features: Features, logits: list[Logits]) -> dict[str, float]:
        references: References = features.references
        of_example = defaultdict(list)
        for window, (starts, ends) in zip(references.windows, logits, strict=True):
            of_example[window.example].append((window, starts.numpy(), ends.numpy()))
        if not all(torch.isfinite(t).all() for row in logits for t in row):
            return dict.fromkeys(self.metrics, math.nan)
        found = [
            best_text(context, of_example[place], self.n_best, self.max_answer_length)
            for place, context in enumerate(references.contexts)
        ]
        both = list(zip(found, references.answers, strict=True))
        values = {
            "f1": 100.0 * float(np.mean([f1(text, gold) for text, gold in both])),
            "em": 100.0 * float(np.mean([exact_match(text, gold) for text, gold in both])),
        }
        return {name: values[name] for name in self.metrics}

    def _questions(self, questions: list[str], tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """Without leading space, cut after `max_query_length` tokens."""
        questions = [question.lstrip() for question in questions]
        encoded = tokenizer(questions, add_special_tokens=False, return_offsets_mapping=True)
        limit = self.max_query_length
        return [
            question[: offsets[limit - 1][1]] if len(offsets) > limit else question
            for question, offsets in zip(questions, encoded["offset_mapping"], strict=True)
        ]

    def _answer_span(self, row: dict[str, Any], place: int, split: str) -> tuple[int, int] | None:
        """First character of the first answer and one past its last; None if not there."""
        answers = row["answers"]
        if not answers or not answers["text"]:
            raise StageError(
                f"task {self.name}, split {split}: row {place} has no answer; SQuAD v1.1 answers "
                "every question. Name other data: data_root=DIR"
            )
        text, start = answers["text"][0], answers["answer_start"][0]
        found = text and row["context"][start : start + len(text)] == text
        return (start, start + len(text)) if found else None

    def _check_values(self) -> None:
        faults = []
        if unknown := set(self.metrics) - {"f1", "em"}:
            faults.append(f"metrics {sorted(unknown)} are none of f1, em")
        if self.best_metric not in self.metrics:
            faults.append(f"best_metric={self.best_metric} is not among the metrics")
        if min(self.max_query_length, self.max_answer_length, self.n_best) < 1:
            faults.append("max_query_length, max_answer_length and n_best must be at least 1")
        # [CLS] question [SEP] context [SEP]; each window must go on beyond the overlap.
        if self.doc_stride < 0 or self.max_length - self.max_query_length - 3 <= self.doc_stride:
            faults.append(
                f"max_length={self.max_length} leaves no room beside a question of "
                f"{self.max_query_length} tokens and an overlap (doc_stride) of {self.doc_stride}"
            )
        if faults:
            raise RequestError(f"task {self.name}: {'; '.join(faults)}. Use task.KEY=VALUE.")


def _window(encoded: Any, place: int, example: int) -> Window:
    spans = np.array(encoded["offset_mapping"][place], dtype=np.int32)
    context = np.array([part == 1 for part in encoded.sequence_ids(place)])
    spans[~context] = -1
    return Window(example, spans)


def _label(window: Window, span: tuple[int, int] | None) -> list[int]:
    """First and last token that the characters of `span` touch; [0, 0] if the window lacks any."""
    if span is None:
        return [0, 0]
    begin, end = span
    context = np.flatnonzero(window.spans[:, 0] >= 0)
    if not len(context):
        return [0, 0]
    first, last = window.spans[context, 0], window.spans[context, 1]
    if first[0] > begin or last[-1] < end:
        return [0, 0]
    start_token = context[np.searchsorted(first, begin, side="right") - 1]
    end_token = context[np.searchsorted(last, end, side="left")]
    return [int(start_token), int(end_token)]
