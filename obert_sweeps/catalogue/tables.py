"""The five tables: every published number and its footnote, one row of data a printed row."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from types import MappingProxyType

from .cell import TASK_METRICS, Cell

NA = None
NOTHING: Mapping[str, str] = MappingProxyType({})
Numbers = tuple[float | None, ...]

T4 = {  # dense, LT-BERT, Prune OFA, oBERT
    "sst2": (93.01, 85.00, 90.88, 92.20),
    "qnli": (91.25, 80.00, 89.07, 89.97),
}
T4_METHODS = ("dense", "lottery", "prune_ofa", "obert")

T5_METHODS = ("dense", "l0", "magnitude", "movement", "soft_movement", "platon", "obert")
T5: dict[str, tuple[Numbers, ...]] = {
    task: tuple(zip(*lines, strict=True))
    for task, lines in {
        "mnli": (
            (84.6, 78.0, 78.8, 79.3, 80.7, 82.0, 82.2),
            (83.4, 78.7, 79.0, 79.5, 81.1, 82.2, 82.5),
        ),
        "qqp": (
            (91.5, 87.6, 78.8, 89.1, 90.2, 90.2, 90.4),
            (88.5, 82.0, 77.0, 85.4, 86.7, 86.8, 87.1),
        ),
        "qnli": ((91.3, 82.8, 86.6, 79.2, 86.6, 88.9, 89.3),),
        "mrpc": (
            (86.4, 73.8, 70.3, 68.4, 79.7, 84.3, 85.6),
            (90.3, 79.5, 80.3, 81.2, 85.9, 88.8, 89.3),
        ),
        "sst2": ((92.7, 82.5, 80.7, 80.2, 87.4, 90.5, 92.0),),
        "cola": ((58.3, NA, NA, NA, NA, 44.3, 48.47),),
        "stsb": (
            (90.2, 82.7, 83.4, NA, 86.5, 87.4, 88.0),
            (89.7, 83.9, 83.3, NA, 86.3, 87.1, 87.6),
        ),
    }.items()
}

_T4_SCHEDULE = {"obert": "upstream_transfer"}
_T5_SCHEDULE = {"obert": "upstream_transfer_early_stop", "magnitude": "gradual_magnitude"}
# Sparse transfer: the mean of four seeds, pruning downstream: of three runs (oBERT paper, A.10.3);
# Prune OFA: of two (its paper). For the one-shot cells and all that was copied it is not known.
RUNS = {"obert": 4, "prune_ofa": 2}
DOWNSTREAM_RUNS = RUNS | {"obert": 3}
SIZES = ("f1", "file_mb", "compression", "throughput", "speedup")  # the columns of table 3

_NOTES = {
    "t1/squad/bert_base/dense": "EM: the paper's Table 12 prints 81.22 and its Table 13 81.42.",
    "t1/squad/bert_base/obert/2of4": "The paper leaves open how the 1.85x was measured.",
    "t1/squad/bert_base/obert/2of4-1epoch": "Printed in the caption only.",
    "t2/squad/bert_large/dense": (
        "Another dense model than table 3's; its card on the hub says 91.23 / 84.46."
    ),
    "t2/squad/bert_large/prune_ofa/95": "NA: not reported.",
    "t2/squad/bert_large/obert/90": (
        "The paper's Table 7 prints 91.07 / 84.61. "
        "No unstructured recipe for BERT-Large is published."
    ),
    "t2/squad/bert_large/obert/95": "No unstructured recipe for BERT-Large is published.",
    "t3/squad/bert_large/dense": (
        "The MLPerf reference BERT-Large, another model than table 2's. Its throughput is 5.30 in "
        "the MLPerf submission's page, with another engine."
    ),
    "t3/squad/bert_large/obert/95": "INT8, 24 layers kept; MLPerf v2.1 open submission.",
    "t3/squad/mobilebert/obert/50": (
        "INT8, first 14 of 24 layers; recovery is against dense BERT-Large. MLPerf v3.0 gives F1 "
        "90.41, an earlier page of the submission 90.22."
    ),
}
_LOTTERY = "Asterisk: read off a figure, approximate."
_T4_OBERT = "Recipe published for SQuAD, MNLI and QQP; the paper states that it is used here too."
_T5_OBERT = "The paper also chooses the number of epochs, 1 to 8, for each task."
_T5_COPIED = "Most likely copied from the PLATON paper."
_T5_DENSE = {
    "training": "the row is PLATON's authors', and how they trained their dense models is not known"
    " here; it is trained as tables 1 and 4's"
}
_DIVERGED = "NA: does not converge."
_T5_NOTES = {
    ("mnli", "dense"): "Mismatched below matched; the paper's own teacher has 84.54 / 85.06.",
    ("mnli", "obert"): "The paper counts 19,628 development rows, GLUE has 19,647.",
    ("qqp", "platon"): "PLATON's script keeps 20 % on QQP; its settings for 10 % are not known.",
}


def _cell(
    cell_id: str,
    numbers: Numbers,
    *,
    metrics: tuple[str, ...] | None = None,
    pattern: str = "unstructured",
    sparsity: float = 0.9,
    schedule: str = "dense",
    distill: str = "none",
    note: str = "",
    converges: bool = True,
    reading_error: float = 0.0,
    runs: int = 1,
    assumed: Mapping[str, str] = NOTHING,
) -> Cell:
    """A cell from its id and its printed numbers; the id holds table, task, model, method."""
    table, task, model, method, *variant = cell_id.split("/")
    dense = method == "dense"
    # Table 3 measures MobileBERT too against BERT-Large: one dense model a table and task.
    dense_model = "bert_large" if table == "t3" else model
    return Cell(
        id=cell_id,
        table=int(table[1:]),
        task=task,
        model=model,
        method=method,
        sparsity=0.0 if dense else sparsity,
        pattern="dense" if dense else pattern,
        variant=variant[0] if variant else None,
        published=dict(zip(metrics or TASK_METRICS[task], numbers, strict=True)),
        note=note or _NOTES.get(cell_id, ""),
        schedule=schedule,
        distill=distill,
        baseline=None if dense else f"{table}/{task}/{dense_model}/dense",
        converges=converges,
        reading_error=reading_error,
        runs=runs,
        assumed=assumed,
    )


def _table1() -> list[Cell]:
    base = "t1/squad/bert_base"
    pruned = partial(_cell, pattern="2of4", sparsity=0.5, schedule="oneshot")
    with_speed = (*TASK_METRICS["squad"], "gpu_speedup")
    return [
        _cell(f"{base}/dense", (88.54, 81.41)),
        pruned(f"{base}/magnitude/2of4", (49.97, 35.24)),
        pruned(
            f"{base}/obert/2of4", (83.17, 74.18, 1.85), metrics=with_speed, schedule="oneshot_speed"
        ),
        pruned(f"{base}/obert/2of4-1epoch", (88.58, 81.16), schedule="oneshot_1epoch"),
    ]


def _table2() -> list[Cell]:
    base = "t2/squad/bert_large"
    rows: dict[int, dict[str, Numbers]] = {
        90: {"prune_ofa": (90.20, 83.35), "obert": (91.00, 84.50)},
        95: {"prune_ofa": (NA, NA), "obert": (90.29, 83.58)},
    }
    schedules = {"prune_ofa": "prune_ofa", "obert": "gradual"}
    return [_cell(f"{base}/dense", (91.22, 84.45))] + [
        _cell(
            f"{base}/{method}/{percent}",
            numbers,
            sparsity=percent / 100,
            schedule=schedules[method],
            distill="kd_t2",
            runs=DOWNSTREAM_RUNS[method],
        )
        for percent, row in rows.items()
        for method, numbers in row.items()
    ]


def _table3() -> list[Cell]:
    sized = partial(_cell, metrics=SIZES, pattern="block4")
    return [
        sized(
            "t3/squad/bert_large/dense",
            (90.87, 1300.0, 1, 15.49, 1),
            schedule="dense_reference",
        ),
        sized(
            "t3/squad/bert_large/obert/95",
            (90.21, 38.20, 34, 230.74, 15),
            sparsity=0.95,
            schedule="compound_large",
            distill="kd_t5",
        ),
        sized(
            "t3/squad/mobilebert/obert/50",
            (90.32, 9.56, 136, 928.58, 60),
            sparsity=0.5,
            schedule="compound_mobilebert",
            distill="kd_t5_5",
        ),
    ]


def glue_cell(table: int, task: str, method: str) -> str:
    """The id of a cell of table 4 or 5."""
    return f"t{table}/{task}/bert_base/{method}" + ("" if method == "dense" else "/90")


def _table4() -> list[Cell]:
    notes = {"lottery": _LOTTERY, "obert": _T4_OBERT}
    distill = {"prune_ofa": "kd_t2", "obert": "kd_t5_5"}
    return [
        _cell(
            glue_cell(4, task, method),
            (number,),
            schedule=_T4_SCHEDULE.get(method, method),
            distill=distill.get(method, "none"),
            note=notes.get(method, ""),
            reading_error=2.5 if method == "lottery" else 0.0,
            runs=RUNS.get(method, 1),
        )
        for task, row in T4.items()
        for method, number in zip(T4_METHODS, row, strict=True)
    ]


def _table5() -> list[Cell]:
    def note(task: str, method: str, numbers: Numbers) -> str:
        parts = [_DIVERGED] if None in numbers else []
        parts += [_T5_NOTES[task, method]] if (task, method) in _T5_NOTES else []
        parts += [_T5_OBERT if method == "obert" else _T5_COPIED]
        return " ".join(parts)

    return [
        _cell(
            glue_cell(5, task, method),
            numbers,
            schedule=_T5_SCHEDULE.get(method, method),
            note=note(task, method, numbers),
            converges=None not in numbers,
            runs=RUNS.get(method, 1),
            assumed=_T5_DENSE if method == "dense" else NOTHING,
        )
        for task, row in T5.items()
        for method, numbers in zip(T5_METHODS, row, strict=True)
    ]


@cache
def document_cells() -> tuple[Cell, ...]:
    """The 69 cells in the order of the document."""
    return (*_table1(), *_table2(), *_table3(), *_table4(), *_table5())


@cache
def _by_id() -> dict[str, Cell]:
    return {cell.id: cell for cell in document_cells()}


def cell_named(cell_id: str) -> Cell:
    """One of the 69; KeyError for an id that is none of theirs."""
    return _by_id()[cell_id]
