"""How the document prints its five tables: columns, rows, and which cell stands where."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from .cell import MODELS, TASK_METRICS, TASKS
from .tables import SIZES, T4, T4_METHODS, T5, T5_METHODS, glue_cell

DOCUMENT = (
    "The Optimal BERT Surgeon (Kurtic et al., EMNLP 2022, arXiv 2203.07259), supplementary tables"
)


@dataclass(frozen=True)
class Slot:
    """A place in a printed table: fixed text, or some metrics of a cell."""

    text: str = ""
    cell: str | None = None
    metrics: tuple[str, ...] = ()
    recovery: bool = False  # the document prints the recovery beside it


@dataclass(frozen=True)
class Layout:
    """A table as the document prints it. `rows` are as wide as `head`."""

    table: int
    title: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Slot, ...], ...]


def _label(task: str) -> Slot:
    names = {
        "mnli": "matched / mismatched",
        "qqp": "Acc / F1",
        "mrpc": "Acc / F1",
        "cola": "Mcc",
        "stsb": "Pearson / Spearman",
        "squad": "F1, EM",
    }
    return Slot(f"{TASKS[task]} {names.get(task, 'Acc')}")


def _row(table: int, task: str, methods: tuple[str, ...]) -> list[Slot]:
    return [Slot(cell=glue_cell(table, task, m), metrics=TASK_METRICS[task]) for m in methods]


@cache
def layouts() -> tuple[Layout, ...]:
    """The five tables in their own layout, captions in short."""
    squad = TASK_METRICS["squad"]
    t1, t2, t3 = "t1/squad/bert_base", "t2/squad/bert_large", "t3/squad"

    def on_squad(cell_id: str) -> Slot:
        return Slot(cell=cell_id, metrics=squad)

    def compound(label: str, precision: str, cell_id: str) -> tuple[Slot, ...]:
        columns = (Slot(cell=cell_id, metrics=(m,), recovery=m == "f1") for m in SIZES)
        return (Slot(label), Slot(precision), *columns)

    base = MODELS["bert_base"]
    return (
        Layout(
            1,
            "2:4 pruning for GPUs",
            "One-shot 2:4 pruning of BERT-Base, oBERT against magnitude; then one epoch of "
            "fine-tuning (from the caption).",
            ("Task", base, "Magnitude", "oBERT", "oBERT + 1 epoch", "GPU speedup"),
            (
                (
                    _label("squad"),
                    on_squad(f"{t1}/dense"),
                    on_squad(f"{t1}/magnitude/2of4"),
                    on_squad(f"{t1}/obert/2of4"),
                    on_squad(f"{t1}/obert/2of4-1epoch"),
                    Slot(cell=f"{t1}/obert/2of4", metrics=("gpu_speedup",)),
                ),
            ),
        ),
        Layout(
            2,
            "BERT-Large, unstructured",
            "oBERT against upstream Prune OFA on BERT-Large, at 90 % and at twice that sparsity.",
            ("Task", MODELS["bert_large"], "Sparsity", "Prune OFA", "oBERT"),
            tuple(
                (
                    _label("squad"),
                    on_squad(f"{t2}/dense"),
                    Slot(f"{percent}%"),
                    on_squad(f"{t2}/prune_ofa/{percent}"),
                    on_squad(f"{t2}/obert/{percent}"),
                )
                for percent in (90, 95)
            ),
        ),
        Layout(
            3,
            "Compound compression for edge deployment",
            "Block-4 pruning, INT8 and layer dropping on SQuAD, meant to keep more than 99 % of "
            "dense BERT-Large; sizes and speeds in a sparse CPU engine.",
            ("Model", "Precision", "F1", "File size", "Compression", "Throughput", "Speedup"),
            (
                compound("BERT-Large dense", "FP32", f"{t3}/bert_large/dense"),
                compound("oBERT-Large", "INT8", f"{t3}/bert_large/obert/95"),
                compound("oBERT-MobileBERT", "INT8", f"{t3}/mobilebert/obert/50"),
            ),
        ),
        Layout(
            4,
            "Additional GLUE tasks",
            "BERT-Base at 90 %: oBERT, one set-up for all tasks, against LT-BERT and Prune OFA.",
            ("Task", base, "Sparsity", "LT-BERT", "Prune OFA", "oBERT"),
            tuple(
                (_label(t), *dense, Slot("90%"), *rest)
                for t in T4
                for dense, rest in [(_row(4, t, ("dense",)), _row(4, t, T4_METHODS[1:]))]
            ),
        ),
        Layout(
            5,
            "Comparison with PLATON and the methods it compares with",
            "BERT-Base at 90 %, without distillation. NA: does not converge.",
            ("Task", base, "l0", "Magnitude", "Movement", "Soft-movement", "PLATON", "oBERT"),
            tuple((_label(t), *_row(5, t, T5_METHODS)) for t in T5),
        ),
    )
