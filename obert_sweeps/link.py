"""The links of a schedule's chain: what one says beyond its training, and rounds of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from .schema import RequestError, Training


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


def in_rounds(links: dict[str, Link], target: float) -> dict[str, Link]:
    """The chain with each link that has `rounds` written out: round_0, round_1, …

    The first round prunes nothing; the k-th, from the one before it, prunes to k * rounds first,
    for as long as that is below `target`, the cell's sparsity. A link that names it means its last
    round. RequestError for a share that is none.
    """
    chain: dict[str, Link] = {}
    last: dict[str, str] = {}
    for role, written in links.items():
        named = {part: getattr(written, part) for part in ("start", "masks", "teacher", "rewind")}
        link = replace(written, **{part: last.get(name, name) for part, name in named.items()})
        if link.rounds is None:
            chain[role] = link
        else:
            rounds = _rounds(role, replace(link, rounds=None), link.rounds, target)
            chain |= rounds
            last[role] = list(rounds)[-1]
    return chain


def _rounds(role: str, link: Link, step: float, target: float) -> dict[str, Link]:
    if not 0 < step < 1:
        raise RequestError(
            f"stage '{role}' has rounds={step:g}: it is the share of the weights that each round"
            " prunes, between 0 and 1. Say for instance 0.1."
        )
    found = {f"{role}_0": replace(link, method="dense", pruning=None, rewind=None)}
    while (level := round(len(found) * step, 9)) < target:
        found[f"{role}_{len(found)}"] = replace(link, start=list(found)[-1], level=level)
    return found
