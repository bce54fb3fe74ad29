"""Exact match and F1 against hand counts and torchmetrics; the best span against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obert_sweeps.task.squad_answers import Window, best_text, exact_match, f1, normalised


@pytest.mark.parametrize(
    ("answer", "gold", "em", "expected"),
    [
        ("The Eiffel Tower!", ["Eiffel tower"], 1.0, 1.0),
        ("in the old town", ["old town hall"], 0.0, 2 * 2 / (3 + 3)),
        ("red car", ["blue boat", "a car"], 0.0, 2 / 3),
        ("", ["something"], 0.0, 0.0),
        ("the", ["a"], 1.0, 1.0),
        ("car car", ["car"], 0.0, 2 / 3),
    ],
)
def test_by_hand(answer: str, gold: list[str], em: float, expected: float) -> None:
    assert exact_match(answer, gold) == em
    assert f1(answer, gold) == pytest.approx(expected)


def test_normalised() -> None:
    assert normalised("  The U.S.A.,  an  Example-case ") == "usa examplecase"


words = st.lists(
    st.sampled_from("the a an car Car, boat. red in of 1999 !".split()), min_size=0, max_size=6
).map(" ".join)


@given(st.lists(st.tuples(words, st.lists(words, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_against_torchmetrics(cases: list[tuple[str, list[str]]]) -> None:
    from torchmetrics.functional.text import squad

    predictions = [{"id": str(i), "prediction_text": text} for i, (text, _) in enumerate(cases)]
    targets = [
        {"id": str(i), "answers": {"text": gold, "answer_start": [0] * len(gold)}}
        for i, (_, gold) in enumerate(cases)
    ]
    theirs = squad(predictions, targets)
    ours_f1 = 100 * np.mean([f1(text, gold) for text, gold in cases])
    ours_em = 100 * np.mean([exact_match(text, gold) for text, gold in cases])
    assert ours_em == pytest.approx(float(theirs["exact_match"]), abs=1e-3)
    assert ours_f1 == pytest.approx(float(theirs["f1"]), abs=1e-3)


CONTEXT = "aa bb cc dd ee ff gg hh"


@given(
    st.integers(1, 12),
    st.integers(1, 6),
    st.lists(
        st.tuples(st.integers(0, 3), st.lists(st.integers(-50, 50), min_size=20, max_size=20)),
        min_size=1,
        max_size=3,
    ),
)
def test_best_span_against_brute_force(
    n_best: int, longest: int, shapes: list[tuple[int, list[int]]]
) -> None:
    windows = []
    for skip, values in shapes:
        starts = [(-1, -1)] * 2 + [(3 * i, 3 * i + 2) for i in range(skip, 8)]
        spans = np.array(starts, dtype=np.int32)
        numbers = np.array(values, dtype=np.float32)
        size = len(spans)
        windows.append((Window(0, spans), numbers[:size], numbers[20 - size :]))
    found = best_text(CONTEXT, windows, n_best, longest)

    best, expected = -np.inf, {""}
    for window, start, end in windows:
        size = len(start)
        firsts = sorted(range(size), key=lambda i: (-start[i], i))[:n_best]
        lasts = sorted(range(size), key=lambda i: (-end[i], i))[:n_best]
        for i in firsts:
            for j in lasts:
                inside = window.spans[i, 0] >= 0 and window.spans[j, 0] >= 0
                if not inside or j < i or j - i + 1 > longest:
                    continue
                text = CONTEXT[window.spans[i, 0] : window.spans[j, 1]]
                score = start[i] + end[j]
                if score > best:
                    best, expected = score, {text}
                elif score == best:
                    expected.add(text)
    assert found in expected
