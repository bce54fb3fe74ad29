"""The links of a schedule's chain: what one says beyond its recipe, and rounds of it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from ..schema import Benchmark, EqualBudget, RequestError, Training
from .stretch import stretch


@dataclass
class Link(Training):
    """One stage of a schedule's chain: its training, and what it starts from.

    task, method, distill: `cell` is the cell's own. start, masks, teacher, and the training's
    rewind: `checkpoint` (the model's own), `pretrained` (the preset's MLM stage, where it has
    one), `dense` (the dense fine-tuned model of the cell's task), or an earlier link.
    """

    task: str = "cell"
    method: str = "cell"
    start: str = "pretrained"
    masks: str | None = None
    teacher: str | None = None
    distill: Any = None
    method_overrides: dict[str, Any] = field(default_factory=dict)
    checkpoint: dict[str, Any] = field(default_factory=dict)  # model keys for `start: checkpoint`
    level: float | None = None  # a sparsity of its own; None: the cell's
    rounds: float | None = None  # repeat the link, each time with so much more of the weights gone
    against: ClassVar[None] = None
    needs_gpu: ClassVar[bool] = False

    def parents(self) -> dict[str, str]:
        """Role -> the word for the stage that has it."""
        named = {part: getattr(self, part) for part in ("start", "masks", "rewind", "teacher")}
        return {part: name for part, name in named.items() if name is not None}

    def training(self) -> Training:
        """The training alone."""
        return Training(**{part.name: getattr(self, part.name) for part in fields(Training)})


@dataclass
class DeployLink:
    """A stage after training: `export` writes a model's files, `benchmark` runs them in engines.

    start: an earlier link. against: what its size and speed are compared with: a schedule, whose
    export of the row's dense model is taken, or, of a benchmark, `dense`, the dense model as it was
    trained. A dense model is compared with nothing.
    """

    kind: str
    start: str
    against: str | None = None
    benchmark: Benchmark | None = None
    task: ClassVar[str] = "cell"
    method: ClassVar[None] = None
    rewind: ClassVar[None] = None
    teacher: ClassVar[None] = None

    @property
    def needs_gpu(self) -> bool:
        return self.benchmark is not None and self.benchmark.gpu

    def parents(self) -> dict[str, str]:
        return {"start": self.start}


AnyLink = Link | DeployLink


def in_rounds(links: dict[str, AnyLink], target: float) -> dict[str, AnyLink]:
    """The chain with each link that has `rounds` written out: round_0, round_1, …

    The first round prunes nothing; the k-th, from the one before it, prunes to k * rounds first,
    for as long as that is below `target`, the cell's sparsity. A link that names it means its last
    round. RequestError for a share that is none.
    """
    chain: dict[str, AnyLink] = {}
    last: dict[str, str] = {}
    for role, written in links.items():
        named: dict[str, Any] = {p: last.get(name, name) for p, name in written.parents().items()}
        link = replace(written, **named)
        if isinstance(link, Link) and link.rounds is not None:
            rounds = _rounds(role, replace(link, rounds=None), link.rounds, target)
            chain |= rounds
            last[role] = list(rounds)[-1]
        else:
            chain[role] = link
    return chain


def _rounds(role: str, link: Link, step: float, target: float) -> dict[str, Link]:
    if not 0 < step < 1:
        raise RequestError(
            f"stage '{role}' has rounds={step:g}: it is the share of the weights that each round"
            " prunes, between 0 and 1. For instance: 0.1."
        )
    found = {f"{role}_0": replace(link, method="dense", pruning=None, rewind=None)}
    while (level := round(len(found) * step, 9)) < target:
        found[f"{role}_{len(found)}"] = replace(link, start=list(found)[-1], level=level)
    return found


def at_equal_budget(links: dict[str, AnyLink], budget: EqualBudget) -> dict[str, AnyLink]:
    """The chain with what it trains on the cell's task brought to one budget for all methods.

    All its links on that task together have `budget.epochs` epochs, in proportion to their own, and
    the highest rate of them all is `budget.learning_rate`; batches are of `budget.batch_size` rows.
    Every link keeps its shape: shares of warm-ups, pruning times, falls and cycles of the rate.
    The last weights count, not the best of several epochs. Links on another task (upstream) stay.
    """
    trained = {role: link for role, link in links.items() if isinstance(link, Link)}
    own = {role: link for role, link in trained.items() if link.task == "cell" and link.epochs > 0}
    rates = [r for link in own.values() for p in link.learning_rate for r in (p.initial, p.final)]
    peak = max(rates, default=0.0)
    if peak <= 0:  # nothing is trained: one-shot
        return links
    factor = budget.epochs / sum(link.epochs for link in own.values())

    def brought(link: Link) -> Link:
        stretched = stretch(link, factor)
        pieces = [
            replace(
                piece,
                initial=piece.initial / peak * budget.learning_rate,
                final=piece.final / peak * budget.learning_rate,
            )
            for piece in stretched.learning_rate
        ]
        return replace(
            stretched,
            batch_size=budget.batch_size,
            learning_rate=pieces,
            keep="last",
            patience=None,
        )

    return links | {role: brought(link) for role, link in own.items()}
