"""A 2-layer, 32-wide BERT and small tasks of generated token ids, for tests of training."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertTokenizer

from obert_sweeps.method.magnitude import Magnitude
from obert_sweeps.model.bert import Bert
from obert_sweeps.schema import Interrupted
from obert_sweeps.task.base import Features, Task
from obert_sweeps.task.heads import Classification, Head, MaskedLanguage, Regression, Span
from obert_sweeps.train.batches import Batches
from obert_sweeps.train.data import Data

VOCABULARY = 40
CONFIG = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
PAD, UNK, CLS, SEP, MASK = range(5)
HEADS = {head.name: head for head in (Classification(), Regression(), Span(), MaskedLanguage())}


class Toy(Task):
    """Rows of random tokens; which of the tokens 5 and 6 a row has decides its label."""

    best_metric = "accuracy"

    def __init__(
        self,
        *,
        name: str = "toy",
        head: str = "classification",
        rows: int = 40,
        max_length: int = 12,
    ) -> None:
        self.name = name
        self.head: Head = HEADS[head]
        self.rows_stay = head != "mlm"
        self.rows = rows
        self.max_length = max_length
        self.num_labels = {"classification": 2, "regression": 1, "span": 2, "mlm": 0}[head]
        self.metrics = ("accuracy", "loss")
        self.read: list[str] = []  # which splits were asked for, in order

    def make_tokenizer(self) -> Any:
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        words += [f"w{i}" for i in range(len(words), VOCABULARY)]
        return BertTokenizer(vocab={word: i for i, word in enumerate(words)})

    def features(self, split: str, tokenizer: Any, max_rows: int | None = None) -> Features:
        self.read.append(split)
        generator = torch.Generator().manual_seed(len(split))
        rows = []
        for i in range(min(self.rows, max_rows or self.rows)):
            length = int(torch.randint(2, self.max_length - 2, (), generator=generator))
            body = torch.randint(7, VOCABULARY, (length,), generator=generator).tolist()
            place = int(torch.randint(length, (), generator=generator))
            body[place] = 5 + i % 2
            ids = [CLS, *body, SEP]
            labels: Any = {"classification": i % 2, "regression": float(i % 2)}.get(
                self.head.name, 0
            )
            if self.head.name == "span":
                labels = [1 + place, 1 + place]
            rows.append({"input_ids": ids, "token_type_ids": [0] * len(ids), "labels": labels})
        return Features(split, rows)

    def collate(
        self, rows: list[dict[str, Any]], pad_token_id: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), width), pad_token_id)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
            mask[i, : len(row["input_ids"])] = 1
        labels = torch.tensor([row["labels"] for row in rows])
        if self.head.name == "mlm":
            chosen = (torch.rand(ids.shape, generator=generator) < 0.3) & (ids > MASK)
            labels = ids.masked_fill(~chosen, -100)
            ids = ids.masked_fill(chosen, MASK)
        types = torch.zeros_like(ids)
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": types,
            "labels": labels,
        }

    def score(self, features: Features, logits: list[tuple[Tensor, ...]]) -> dict[str, float]:
        if self.head.name != "classification":
            return {"accuracy": float(sum(row[0].mean() for row in logits)), "loss": 0.0}
        found = torch.stack([row[0] for row in logits])
        labels = torch.tensor([row["labels"] for row in features.rows])
        right = (found.argmax(dim=1) == labels).float().mean()
        return {"accuracy": 100 * float(right), "loss": float(F.cross_entropy(found, labels))}


class Stopping(Magnitude):
    """Magnitude pruning that is interrupted after so many optimiser steps of a process."""

    stop_after: int | None = None

    def after_step(self) -> None:
        if Stopping.stop_after is not None:
            Stopping.stop_after -= 1
            if Stopping.stop_after <= 0:
                raise Interrupted(15)


def encoder(**changes: Any) -> Bert:
    return Bert(name="tiny", from_config=True, config={**CONFIG, **changes})


def model_of(task: Toy, seed: int = 0, dropout: float = 0.0, std: float = 0.2) -> Any:
    """Wide initial weights: gradients and logits of a size that tests can tell apart."""
    torch.manual_seed(seed)
    return encoder(
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, initializer_range=std
    ).build(task.head.name, task.num_labels)


def data_of(task: Toy) -> Data:
    return Data(task, task.make_tokenizer())


def batches_of(task: Toy, batch_size: int = 8, seed: int = 0) -> Batches:
    return Batches(data_of(task), batch_size, seed)
