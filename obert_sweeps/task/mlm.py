"""Masked-language modelling: what upstream models are made and pruned on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..schema import RequestError, StageError
from .array_rows import ArrayRows
from .base import Features, Task
from .corpus import Corpus, Line
from .heads import Batch, Logits, MaskedLanguage
from .masking import IGNORED, Vocabulary, mask_tokens
from .padding import model_inputs, padded
from .word_tokenizer import word_tokenizer

METRICS = ("loss", "unigram_loss", "accuracy")
_VALIDATION_SEED = 0  # the held-out text is masked once, alike for every model and seed
_UNIGRAM_ROWS = 20_000  # training rows that the unigram model counts
_BATCH = 1024  # rows that are masked together
_TEXTS = 256  # that are tokenised together: meanwhile each token takes hundreds of bytes


class Mlm(Task):
    """Training text is masked anew in each batch, held-out text once.

    `pack` joins whole texts, a [SEP] after each, and cuts the stream into rows of `max_length`;
    otherwise a row is a line, or a pair of lines in two segments, cut to `max_length`. `corpus`:
    local texts, one entry a folder (keys data, folder, text_columns); `more_hub`: further data sets
    of the hub beside `hub`. Raises RequestError for values out of range or no texts.
    """

    head = MaskedLanguage()
    num_labels = 0
    metrics = METRICS
    evaluation_splits = ("validation",)
    rows_stay = False  # masked anew

    def __init__(
        self,
        *,
        name: str,
        hub: str | None,
        hub_config: str | None,
        revision: str | None,
        more_hub: Sequence[Mapping[str, Any]],
        data: str,
        source: str,
        folder: str | None,
        corpus: Sequence[Mapping[str, Any]],
        held_out_rows: int,
        mask_probability: float,
        max_length: int,
        pack: bool,
        best_metric: str,
        official_rows: Mapping[str, int],
        generator: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.mask_probability = mask_probability
        self.max_length = max_length
        self.pack = pack
        self.best_metric = best_metric
        if not 0 < mask_probability < 1 or max_length < 8 or held_out_rows < 1:
            raise RequestError(
                f"task {name}: mask_probability must lie between 0 and 1 (is {mask_probability}), "
                f"max_length be 8 or more (is {max_length}), held_out_rows 1 or more (is "
                f"{held_out_rows}). For instance: task.mask_probability=0.15"
            )
        if best_metric != "accuracy":
            raise RequestError(
                f"task {name}: best_metric={best_metric} must be accuracy, the one metric of "
                f"{', '.join(METRICS)} of which more is better."
            )
        first = {"hub": hub, "hub_config": hub_config, "revision": revision}
        hubs = [{**first, "text_columns": ["text"]}, *more_hub] if hub else list(more_hub)
        self.corpus = Corpus(
            name=name,
            source=source,
            hubs=hubs,
            folders=corpus,
            held_out_rows=held_out_rows,
            generator=generator,
        )
        self._vocabulary: Vocabulary | None = None
        self._counts: Tensor | None = None

    def make_tokenizer(self, vocab_size: int | None = None) -> PreTrainedTokenizerBase:
        """A word-level tokenizer over the training lines, for an encoder made from nothing."""
        lines = self.corpus.lines("train")
        return word_tokenizer((text for line in lines for text in line), vocab_size)

    def features(
        self, split: str, tokenizer: PreTrainedTokenizerBase, max_rows: int | None = None
    ) -> Features:
        """Training rows have no labels: `collate` draws them. Held-out rows have theirs."""
        vocabulary = self._vocabulary_of(tokenizer)
        found = self._rows(self.corpus.lines(split, max_rows), tokenizer)
        if split == "train":
            return Features(split, ArrayRows.of(found))
        rows = list(found)
        generator = torch.Generator().manual_seed(_VALIDATION_SEED)
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            ids = padded([row["input_ids"] for row in part], int(vocabulary.special[0]))
            masked, labels = mask_tokens(ids, self.mask_probability, vocabulary, generator)
            for row, row_masked, row_labels in zip(part, masked, labels, strict=True):
                length = len(row["input_ids"])
                row["input_ids"] = row_masked[:length].tolist()
                row["labels"] = row_labels[:length].tolist()
        labels = [torch.tensor(row["labels"]) for row in rows]
        counts = self._unigram_counts(tokenizer)
        return Features(split, rows, references=(labels, unigram_loss(labels, counts)))

    def collate(
        self, rows: list[dict[str, Any]], pad_token_id: int, generator: torch.Generator
    ) -> Batch:
        """`labels` is (B, L): the token where one is to be predicted, -100 elsewhere."""
        batch = model_inputs(rows, pad_token_id)
        if all("labels" in row for row in rows):
            batch["labels"] = padded([row["labels"] for row in rows], IGNORED)
            return batch
        if self._vocabulary is None:
            raise StageError("masking needs the tokenizer: call features() before collate().")
        batch["input_ids"], batch["labels"] = mask_tokens(
            batch["input_ids"], self.mask_probability, self._vocabulary, generator
        )
        return batch

    def predictions(self, outputs: Any, batch: Batch) -> Logits:
        """Nats and 0 or 1 for right, (B, L) each, 0 where nothing is predicted: not (B, L, V)."""
        logits, labels = outputs.logits.float(), batch["labels"]
        nats = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        return nats, (logits.argmax(-1) == labels).float()

    def score(self, features: Features, logits: list[Logits]) -> dict[str, float]:
        """loss and unigram_loss in nats a predicted token, accuracy in per cent.

        Each row of `logits` is what `predictions` gave.
        """
        all_labels, unigram = features.references
        nats, right, count = 0.0, 0.0, 0
        for labels, (row_nats, row_right) in zip(all_labels, logits, strict=True):
            picked = labels != IGNORED
            count += int(picked.sum())
            nats += float(row_nats[picked].double().sum())
            right += float(row_right[picked].sum())
        if count == 0:
            return {"loss": math.nan, "unigram_loss": math.nan, "accuracy": math.nan}
        return {"loss": nats / count, "unigram_loss": unigram, "accuracy": 100.0 * right / count}

    def check(self, metrics: Mapping[str, float | None]) -> str | None:
        loss, unigram = metrics["loss"], metrics["unigram_loss"]
        if unigram is None:
            return (
                f"no token of the held-out text of {self.name} can be predicted, so nothing says"
                " whether this model has learnt anything: the tokenizer knows none of its words."
                " Choose another checkpoint (model.path=DIR) or other texts (data_root=DIR)."
            )
        if loss is None:
            return (
                "the held-out loss of masked-language modelling is not finite: this model is"
                " nothing to build upon. Lower the learning rate."
            )
        if loss < unigram:
            return None
        return (
            f"the held-out loss of masked-language modelling, {loss:.3f} nats a token, is not "
            f"below that of a unigram model, {unigram:.3f}: this model has learnt nothing that "
            "could be pruned. Train longer, or lower the learning rate."
        )

    def _vocabulary_of(self, tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
        if self._vocabulary is None or self._vocabulary.size != len(tokenizer):
            self._vocabulary = Vocabulary.of(tokenizer)
            self._counts = None
        return self._vocabulary

    def _rows(
        self, lines: Sequence[Line], tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[dict[str, Any]]:
        if self.pack:
            return pack([text for line in lines for text in line], tokenizer, self.max_length)
        return one_a_line(lines, tokenizer, self.max_length)

    def _unigram_counts(self, tokenizer: PreTrainedTokenizerBase) -> Tensor:
        """How often each word stands in (at most 20,000 lines of) the training text, (V,)."""
        if self._counts is None:
            vocabulary = self._vocabulary_of(tokenizer)
            lines = self.corpus.lines("train", _UNIGRAM_ROWS)
            rows = ArrayRows.of(self._rows(lines, tokenizer))
            counts = torch.from_numpy(np.bincount(rows.ids, minlength=vocabulary.size))
            counts[vocabulary.special] = 0
            self._counts = counts
        return self._counts


def pack(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[dict[str, Any]]:
    """Whole texts one after another, [SEP] between them, in rows of `max_length` tokens.

    Each row begins with [CLS] and ends with [SEP]; the last may be shorter.
    """
    start, end, body = tokenizer.cls_token_id, tokenizer.sep_token_id, max_length - 2

    def row(tokens: list[int]) -> dict[str, Any]:
        return {"input_ids": [start, *tokens, end], "token_type_ids": [0] * (len(tokens) + 2)}

    rest: list[int] = []
    for begin in range(0, len(texts), _TEXTS):
        encoded = tokenizer(texts[begin : begin + _TEXTS], add_special_tokens=False)["input_ids"]
        stream = rest + [token for ids in encoded for token in (*ids, end)]
        whole = (len(stream) - 1) // body * body  # the last [SEP] of all stands between no texts
        yield from (row(stream[i : i + body]) for i in range(0, whole, body))
        rest = stream[whole:]
    if rest[:-1]:
        yield row(rest[:-1])


def one_a_line(
    lines: Sequence[Line], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[dict[str, Any]]:
    """A row a line, or a pair of lines in two segments, cut to `max_length` tokens."""
    for begin in range(0, len(lines), _TEXTS):
        part = lines[begin : begin + _TEXTS]
        rows: dict[int, dict[str, Any]] = {}
        for paired in (False, True):
            places = [i for i, line in enumerate(part) if (len(line) > 1) == paired]
            if not places:
                continue
            encoded = tokenizer(
                *([part[i][k] for i in places] for k in range(1 + paired)),
                truncation=True,
                max_length=max_length,
                return_token_type_ids=True,
            )
            for place, ids, segments in zip(
                places, encoded["input_ids"], encoded["token_type_ids"], strict=True
            ):
                rows[place] = {"input_ids": ids, "token_type_ids": segments}
        yield from (rows[place] for place in range(len(part)))


def unigram_loss(labels: Sequence[Tensor], counts: Tensor) -> float:
    """Nats a predicted token of the unigram model of `counts` (V,) with one added to each."""
    targets = torch.cat([row[row != IGNORED] for row in labels]) if labels else torch.empty(0)
    if len(targets) == 0:
        return math.nan
    chances = (counts.double() + 1) / (counts.sum() + len(counts))
    return float(-chances[targets].log().mean())
