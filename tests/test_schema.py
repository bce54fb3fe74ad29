"""The words that all modules share."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from obert_sweeps.schema import (
    Distillation,
    LearningRatePiece,
    PruningTimes,
    Quantization,
    StageError,
    Training,
    first_line,
)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("disk full", "disk full"),
        ("\n no model\nat 0x1\n", "no model"),
        ("", "OSError"),
        (" \n", "OSError"),
    ],
)
def test_an_error_is_told_in_one_line(message: str, told: str) -> None:
    assert first_line(OSError(message)) == told


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"pruning": PruningTimes(0, 1, None, 0.5), "distill": Distillation(1.0, 2.0)},
        {"quantize": Quantization(1.0), "keep": "best"},
    ],
)
def test_training_comes_back_from_plain_data(parts: dict[str, Any]) -> None:
    training = Training(
        2, 8, [LearningRatePiece(1, 0.1, 0.2), LearningRatePiece(2, 0.1, 0)], **parts
    )
    assert Training.from_dict(asdict(training)) == training


@pytest.mark.parametrize(
    "wrong", [{"epoch": 1}, {"pruning": {"begin": 0}}, {"learning_rate": [{"till": 1}]}]
)
def test_a_key_that_training_has_not_is_refused(wrong: dict[str, Any]) -> None:
    data = asdict(Training(2, 8, [LearningRatePiece(2, 0.1, 0.0)]))
    with pytest.raises(StageError, match="not understood.*Keys: epochs, batch_size"):
        Training.from_dict({**data, **wrong})
