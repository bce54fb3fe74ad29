"""Whether an engine computes what it should: its logits against others' on the same batch."""

from __future__ import annotations

import numpy as np

from .engines.base import Arrays

# Relative RMS differences. Float engines differ in the order of sums alone; 16 bits have an eighth
# of a per cent a value. INT8 rounds at each layer, and a last-bit difference early in the model
# moves values over a rounding border later: 0.15 was seen between right engines on an untrained
# head, while wrong ones were seen near 1.
FLOAT = 1e-3
REDUCED = 5e-2
INT8 = 0.3


def difference(found: Arrays, expected: Arrays, attention_mask: np.ndarray) -> float:
    """RMS of the difference over RMS of the expected logits, real tokens alone; inf if not finite.

    Logits are (B, labels) or, of each token, (B, L).
    """
    squares = total = 0.0
    for name, wanted in expected.items():
        got = np.asarray(found[name], dtype=np.float64)
        if got.shape != wanted.shape or not np.isfinite(got).all():
            return float("inf")
        keep = attention_mask.astype(bool)
        real = keep if wanted.shape == keep.shape else np.ones(wanted.shape, dtype=bool)
        squares += float(((got - wanted)[real] ** 2).sum())
        total += float((wanted[real].astype(np.float64) ** 2).sum())
    return (squares / total) ** 0.5 if total else float(squares > 0)


def tolerance(quantized: bool, reduced: bool) -> float:
    """The largest difference that counts as right."""
    return INT8 if quantized else REDUCED if reduced else FLOAT
