"""What the document says when it compares: each claim as data that an evaluator can decide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

from .cell import TASK_METRICS, TASKS
from .tables import T4, T4_METHODS, T5, T5_METHODS, glue_cell

CellMetric = tuple[str, str]  # (cell id, metric)


@dataclass(frozen=True)
class Claim:
    """A comparison of the document.

    Each cell of `better` is held against the one of `worse` at the same index, and every pair must
    bear `better > threshold * worse - tolerance`. `relation` names it for people: "greater"
    (threshold 1, tolerance 0) or "recovers".

    A claim about set-ups has no numbers to compare but an `audit` rule, decided on recipes:
    "tuning_free" (no per-task knob of `methods`), "tuned" (at least one), "no_distillation" (in any
    recipe of the table), "one_shot" (the cells of `better` need no training, `methods` do).
    """

    id: str
    table: int
    text: str
    better: tuple[CellMetric, ...] = ()
    worse: tuple[CellMetric, ...] = ()
    relation: str = "greater"
    threshold: float = 1.0
    tolerance: float = 0.0
    audit: str | None = None
    methods: tuple[str, ...] = ()
    why: str = ""

    def cells(self) -> tuple[str, ...]:
        """Ids of the cells whose results decide it, each once."""
        return tuple(dict.fromkeys(cell for cell, _ in self.better + self.worse))


def _on(cells: Iterable[str], metrics: Iterable[str]) -> tuple[CellMetric, ...]:
    return tuple(product(cells, metrics))


def _beats(claim_id: str, text: str, better: str, worse: Sequence[str], task: str) -> Claim:
    """`better` above each cell of `worse` on each metric of the task."""
    metrics = TASK_METRICS[task]
    left = _on([better] * len(worse), metrics)
    return Claim(claim_id, int(claim_id[1]), text, left, _on(worse, metrics))


def _squad() -> list[Claim]:
    t1, t2, t3 = "t1/squad/bert_base", "t2/squad/bert_large", "t3/squad"
    metrics = TASK_METRICS["squad"]
    large = "oBERT-Large (95 % block4, INT8)", f"{t3}/bert_large/obert/95"
    mobile = "oBERT-MobileBERT (14 layers, INT8)", f"{t3}/mobilebert/obert/50"
    return [
        Claim(
            "t1/one-shot-only",
            1,
            "Lottery tickets, movement pruning, Prune OFA, l0 and PLATON “require fine-tuning and "
            "therefore do not support one-shot pruning”; magnitude and oBERT do.",
            _on([f"{t1}/magnitude/2of4", f"{t1}/obert/2of4"], metrics[:1]),
            audit="one_shot",
            methods=("lottery", "movement", "prune_ofa", "l0", "platon"),
            why="Decided on the recipes: no training for the one, training for the others.",
        ),
        _beats(
            "t1/obert-beats-magnitude",
            "One-shot at 2:4, oBERT keeps more of the dense model than magnitude pruning.",
            f"{t1}/obert/2of4",
            [f"{t1}/magnitude/2of4"],
            "squad",
        ),
        Claim(
            "t1/one-epoch-recovers",
            1,
            "One epoch of fine-tuning “fully recovers” the dense model from oBERT 2:4.",
            _on([f"{t1}/obert/2of4-1epoch"], metrics),
            _on([f"{t1}/dense"], metrics),
            relation="recovers",
            tolerance=1.0,
            why="Read as: at most a point below. The printed EM itself is 0.25 below dense.",
        ),
        _beats(
            "t2/obert-beats-prune-ofa",
            "On BERT-Large at 90 %, oBERT beats upstream Prune OFA.",
            f"{t2}/obert/90",
            [f"{t2}/prune_ofa/90"],
            "squad",
        ),
        _beats(
            "t2/double-sparsity",
            "Even oBERT at “double the sparsity” (95 %) outperforms Prune OFA at 90 %.",
            f"{t2}/obert/95",
            [f"{t2}/prune_ofa/90"],
            "squad",
        ),
        *(
            Claim(
                f"t3/{name}-recovers",
                3,
                f"{label} recovers more than 99 % of the F1 of dense BERT-Large.",
                ((cell, "f1"),),
                ((f"{t3}/bert_large/dense", "f1"),),
                relation="recovers",
                threshold=0.99,
            )
            for name, (label, cell) in (("large", large), ("mobilebert", mobile))
        ),
    ]


def _glue() -> list[Claim]:
    def not_tuned(table: int, text: str) -> Claim:
        return Claim(f"t{table}/no-tuning", table, text, audit="tuning_free", methods=("obert",))

    def everywhere(method: str) -> tuple[CellMetric, ...]:
        return tuple(one for t in T5 for one in _on([glue_cell(5, t, method)], TASK_METRICS[t]))

    order = [*T4_METHODS[1:]]  # worst first
    return [
        *(
            Claim(
                f"t4/{task}/order",
                4,
                f"On {TASKS[task]} at 90 %: oBERT above Prune OFA above LT-BERT.",
                _on([glue_cell(4, task, m) for m in order[1:]], TASK_METRICS[task]),
                _on([glue_cell(4, task, m) for m in order[:-1]], TASK_METRICS[task]),
            )
            for task in T4
        ),
        not_tuned(
            4,
            "oBERT's results come “without any per-task hyper-parameter tuning”: “the same setup "
            "is used for all results”.",
        ),
        *(
            _beats(
                f"t5/{task}/best",
                f"On {TASKS[task]} at 90 %, oBERT is the best of the six methods.",
                glue_cell(5, task, "obert"),
                [glue_cell(5, task, m) for m in T5_METHODS if m not in ("dense", "obert")],
                task,
            )
            for task in T5
        ),
        Claim(
            "t5/obert-beats-platon",
            5,
            "oBERT beats concurrent PLATON on every task, although PLATON is tuned per task.",
            everywhere("obert"),
            everywhere("platon"),
        ),
        Claim(
            "t5/no-distillation",
            5,
            "The comparison is fair in that no method is distilled while fine-tuning.",
            audit="no_distillation",
        ),
        not_tuned(5, "oBERT is not tuned per task, early stopping on small tasks apart."),
        Claim(
            "t5/platon-is-tuned",
            5,
            "PLATON's results come “after extensive task-specific hyper-parameter search”.",
            audit="tuned",
            methods=("platon",),
            why="Decided on the published settings: at least one differs between tasks.",
        ),
    ]


@cache
def claims() -> tuple[Claim, ...]:
    """The claims in the order of the document."""
    return (*_squad(), *_glue())
