"""How much published results vary over seeds: the only ones the authors printed seed by seed.

From the model cards of the released oBERT checkpoints (BERT-base, unstructured), as printed there;
of a task's two versions the later (-v2), which the paper's last version and its scripts are of.
They were distilled, which table 5's cells are not: the nearest to a published deviation there is.
"""

from __future__ import annotations

from statistics import stdev
from typing import NamedTuple

from .cell import Cell


class PublishedDeviation(NamedTuple):
    """How a published result varies over seeds: standard deviation (n - 1) in points, of n."""

    value: float
    seeds: int


PUBLISHED_SEEDS: dict[tuple[str, float], dict[str, tuple[float, ...]]] = {
    # (task, sparsity) -> metric -> a value a seed
    ("squad", 0.97): {  # oBERT-12-downstream-pruned-unstructured-97-squadv1
        "f1": (86.06, 86.04, 85.85),
        "em": (78.28, 78.12, 77.93),
    },
    ("mnli", 0.90): {  # oBERT-12-upstream-pruned-unstructured-90-finetuned-mnli-v2
        "accuracy": (83.45, 83.45, 83.27, 83.42),
        "accuracy_mm": (84.13, 83.72, 83.57, 83.71),
    },
    ("mnli", 0.97): {  # oBERT-12-upstream-pruned-unstructured-97-finetuned-mnli-v2
        "accuracy": (80.86, 80.83, 81.18, 80.79),
        "accuracy_mm": (80.88, 81.65, 81.06, 80.95),
    },
    ("qqp", 0.90): {  # oBERT-12-upstream-pruned-unstructured-90-finetuned-qqp-v2
        "accuracy": (90.94, 91.00, 90.94, 91.07),
        "f1": (87.79, 87.81, 87.73, 87.92),
    },
    ("qqp", 0.97): {  # oBERT-12-upstream-pruned-unstructured-97-finetuned-qqp-v2
        "accuracy": (90.42, 90.31, 90.20, 90.39),
        "f1": (87.09, 86.87, 86.76, 87.16),
    },
}


def published_deviation(cell: Cell, metric: str) -> PublishedDeviation | None:
    """Of the cell's model, method, pattern, task and sparsity; None where none was printed."""
    if (cell.method, cell.model, cell.pattern) != ("obert", "bert_base", "unstructured"):
        return None
    seeds = PUBLISHED_SEEDS.get((cell.task, cell.sparsity), {}).get(metric)
    return PublishedDeviation(stdev(seeds), len(seeds)) if seeds else None
