"""SQuAD: the best span over an example's windows, and the official exact match and F1."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass
class Window:
    """A window of an example: its tokens' character spans; -1 where a token is not context."""

    example: int
    spans: NDArray[np.int32]  # (L, 2): first character, one past the last


def best_text(
    context: str,
    windows: Sequence[tuple[Window, Floats, Floats]],
    n_best: int,
    max_answer_length: int,
) -> str:
    """The context's span with the highest start + end logit, "" where no span is possible.

    As the reference scripts do: of each window the `n_best` starts and ends over all its tokens are
    paired; a pair counts if both lie in the context, in order, within `max_answer_length` tokens.
    """
    best, answer = -np.inf, ""
    for window, starts, ends in windows:
        first, last = _largest(starts, n_best), _largest(ends, n_best)
        length = last[None, :] - first[:, None] + 1
        inside = (window.spans[first, 0] >= 0)[:, None] & (window.spans[last, 0] >= 0)[None, :]
        allowed = inside & (length >= 1) & (length <= max_answer_length)
        scores = np.where(allowed, starts[first][:, None] + ends[last][None, :], -np.inf)
        place = int(np.argmax(scores))
        if scores.flat[place] > best:
            best = scores.flat[place]
            row, column = np.unravel_index(place, scores.shape)
            begin, end = window.spans[first[row], 0], window.spans[last[column], 1]
            answer = context[begin:end]
    return answer


def _largest(logits: Floats, count: int) -> NDArray[np.intp]:
    return np.argsort(-logits, kind="stable")[:count]


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles and surplus space (the official evaluation)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, gold: Iterable[str]) -> float:
    return float(any(normalised(answer) == normalised(text) for text in gold))


def f1(answer: str, gold: Iterable[str]) -> float:
    """The highest F1 of common normalised words over the gold answers, 0..1.

    Where answer and gold both normalise to nothing it is 1, as in torchmetrics and in SQuAD v2's
    script; v1.1's says 0. Three of the 10,570 validation questions have such a gold answer.
    """
    return max(
        (_overlap(normalised(answer).split(), normalised(t).split()) for t in gold), default=0
    )


def _overlap(answer: list[str], gold: list[str]) -> float:
    if not answer or not gold:
        return float(answer == gold)
    common = sum((Counter(answer) & Counter(gold)).values())
    return 2 * common / (len(answer) + len(gold)) if common else 0.0
