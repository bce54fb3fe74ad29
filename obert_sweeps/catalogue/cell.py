"""What a cell is, what its metrics are, and how the document names things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

METHODS = {
    "dense": "dense",
    "magnitude": "Magnitude",
    "obert": "oBERT",
    "l0": "l0 regularization",
    "movement": "Movement",
    "soft_movement": "Soft-movement",
    "platon": "PLATON",
    "lottery": "LT-BERT",
    "prune_ofa": "Prune OFA",
}
TASKS = {
    "squad": "SQuAD",
    "mnli": "MNLI",
    "qqp": "QQP",
    "qnli": "QNLI",
    "mrpc": "MRPC",
    "sst2": "SST-2",
    "cola": "CoLA",
    "stsb": "STS-B",
}
MODELS = {"bert_base": "BERT-Base", "bert_large": "BERT-Large", "mobilebert": "MobileBERT"}

TUNING_FREE = frozenset({"obert"})
"""Methods the document calls free of per-task hyper-parameter tuning."""


@dataclass(frozen=True)
class Metric:
    """A column of the document.

    `margin` is how far from the published value still counts as agreement: points of the metric, or
    a share of the published value when `relative`. `exact` metrics do not vary with the seed, so
    agreement within the margin is all there is to ask. Metrics `of_the_machine` are shown beside
    the document's, whose machine is another, and not judged.
    """

    name: str
    label: str
    margin: float = 1.0
    relative: bool = False
    exact: bool = False
    of_the_machine: bool = False
    lower_is_better: bool = False
    unit: str = ""
    needs: str = "its last stage did not record it"  # said when it was not measured
    why: str = (
        "a row's neighbours lie 1.4 points apart in the median; where they are closer, only claims "
        "compare them"
    )


_EXPORT = "no export is among its stages"
_ENGINE = "no benchmark in an inference engine is among its stages, or no engine ran"
_GPU = (
    "no GPU: it is measured where a stage has one with 2:4 sparse tensor cores; if that was done on"
    " another machine, cluster.gpus_per_stage=1 shows it"
)
_sized = partial(
    Metric, margin=0.1, relative=True, exact=True, why="sizes depend on the container of the file"
)
_timed = partial(Metric, of_the_machine=True)

METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("f1", "F1"),
        Metric("em", "EM"),
        Metric("accuracy", "Acc"),
        Metric("accuracy_mm", "Acc mm"),
        Metric("mcc", "Mcc"),
        Metric("pearson", "Pearson"),
        Metric("spearman", "Spearman"),
        _sized("file_mb", "File size", unit=" MB", lower_is_better=True, needs=_EXPORT),
        _sized("compression", "Compression", unit="x", needs=_EXPORT),
        _timed("throughput", "Throughput", unit=" /s", needs=_ENGINE),
        _timed("speedup", "Speedup", unit="x", needs=_ENGINE),
        _timed("gpu_speedup", "GPU speedup", unit="x", needs=_GPU),
    )
}


def metric_named(name: str) -> Metric:
    """One of METRICS; of a task of one's own a metric that is called as it is recorded."""
    return METRICS.get(name) or Metric(name, name)


def method_label(method: str) -> str:
    """The document's name for it; a method of one's own by its leaf."""
    return METHODS.get(method, method)


def task_label(task: str) -> str:
    """The document's name for it; a task of one's own by its leaf."""
    return TASKS.get(task, task)


TASK_METRICS: dict[str, tuple[str, ...]] = {
    "squad": ("f1", "em"),
    "mnli": ("accuracy", "accuracy_mm"),
    "qqp": ("accuracy", "f1"),
    "qnli": ("accuracy",),
    "mrpc": ("accuracy", "f1"),
    "sst2": ("accuracy",),
    "cola": ("mcc",),
    "stsb": ("pearson", "spearman"),
}
"""Quality metrics in the order the document prints them; the first is the primary one."""


def primary_metric(task: str, leaf: Mapping[str, Any] | None = None) -> str:
    """The metric recovery and rank are taken on.

    Of a task of one's own it is its `leaf`'s best_metric; accuracy where that is not known.
    """
    if task in TASK_METRICS:
        return TASK_METRICS[task][0]
    return str((leaf or {}).get("best_metric") or "accuracy")


@dataclass(frozen=True)
class Cell:
    """One (table, task, model, method, sparsity) entry of the document.

    `published` maps each printed metric to its value, None where the document prints NA;
    `converges` is False where that NA means "does not converge". `reading_error` is the half-width,
    in points, of what a value read off a figure may be wrong by. `runs` is how many runs over seeds
    the printed values are means of; 1 where that is not known. `assumed` says what no source gives
    of how the printed values came about, whatever the recipe. `settings` is what was said of a
    cell of one's own beyond its id, and of one of the document that makes it another than was
    published: it tells those apart that have the same id.
    """

    id: str
    table: int
    task: str
    model: str
    method: str
    sparsity: float  # share of prunable weights that are zero, 0..1
    pattern: str  # dense | unstructured | block4 | 2of4
    variant: str | None
    published: Mapping[str, float | None]
    note: str
    schedule: str  # leaf of the schedule group
    distill: str  # leaf of the distill group
    baseline: str | None  # id of the dense cell of its own table; None for that cell itself
    converges: bool = True
    reading_error: float = 0.0
    runs: int = 1
    assumed: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()

    def listing(self) -> dict[str, Any]:
        """The row `ls format=json` prints for this cell."""
        names = "id table task model method sparsity pattern".split()
        row: dict[str, Any] = {name: getattr(self, name) for name in names}
        return row | {"published": dict(self.published), "note": self.note}

    @property
    def row(self) -> tuple[int, str, str, str | None]:
        """Cells with the same row compete with each other in the document."""
        return (self.table, self.task, self.model, self.variant)
