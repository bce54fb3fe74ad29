"""Sparsity patterns: which sets of weights may go together, and which go at a given level.

Every pattern divides a weight (out, in) into groups of `size` consecutive weights along the input
dimension and has one or more `candidates`: sets of positions in a group that may be pruned
together. With one candidate a group, groups compete with each other (unstructured, block); with
several, the candidates of one group compete (N:M). A method gives each candidate a cost and the
pattern selects; no method needs to know which pattern it serves.
"""

from __future__ import annotations

from functools import cached_property
from itertools import combinations
from typing import Literal, get_args

import torch
from torch import Tensor

from ..schema import RequestError, StageError

Scope = Literal["global", "tensor"]


def check_scope(scope: str) -> None:
    """RequestError unless `scope` is one that patterns know."""
    if scope not in get_args(Scope):
        raise RequestError(
            f"method.scope {scope!r} is unknown. Choose one of: {', '.join(get_args(Scope))}."
        )


TIE_SEED = 42  # sparseml's mask_creator draws with this seed from a mass of equal minima


class Pattern:
    """Groups of `size` weights; `candidates` holds the position sets that may go together."""

    def __init__(self, name: str, size: int, candidates: tuple[tuple[int, ...], ...]) -> None:
        self.name = name
        self.size = size
        self.candidates = candidates

    @property
    def gradual(self) -> bool:
        """Whether levels between 0 and the target exist."""
        return True

    @property
    def groups_compete(self) -> bool:
        """Whether groups compete with each other; if not, the candidates of one group do."""
        return len(self.candidates) == 1

    def grouped(self, weight: Tensor, layer: str = "") -> Tensor:
        """View (out, in) as (out, in / size, size). StageError if `size` does not divide `in`."""
        out, inputs = weight.shape
        if inputs % self.size:
            raise StageError(
                f"layer {layer or '?'} has {inputs} inputs, which groups of {self.size}"
                f" ({self.name}) do not divide. Choose sparsity.pattern=unstructured, or leave the"
                " layer out."
            )
        return weight.reshape(out, inputs // self.size, self.size)

    def spread(self, groups: Tensor) -> Tensor:
        """One bool a group (out, in / size) -> one a weight (out, in)."""
        return groups if self.size == 1 else groups.repeat_interleave(self.size, dim=1)

    def costs(self, importance: Tensor, layer: str = "") -> Tensor:
        """Costs of the candidates from an importance of single weights, (out, in): their mean.

        Returns (out, in / size), or (out, in / size, candidates) if there are several.
        """
        if self.size == 1:
            return importance
        groups = self.grouped(importance, layer)
        means = []
        for candidate in self.candidates:
            total = groups[..., candidate[0]]
            for position in candidate[1:]:
                total = total + groups[..., position]
            means.append(total / len(candidate))
        return means[0] if self.groups_compete else torch.stack(means, dim=-1)

    def select(
        self,
        costs: dict[str, Tensor],
        level: float,
        scope: Scope = "global",
        keep: dict[str, Tensor] | None = None,
        seed: int = TIE_SEED,
    ) -> dict[str, Tensor]:
        """Choose what stays: bool (out, in) by layer, True = kept. Deterministic.

        What `keep` has pruned stays pruned and counts first, so that masks only grow.

        Where groups compete exactly round(level * N) of the N groups go, those with the lowest
        costs over all layers (`scope` "global") or in each ("tensor"); members of a partly pruned
        group stay pruned as well. Among equal costs at the threshold the first in index order are
        kept; if the threshold is the lowest cost of all (a mass of equal minima), the pruned ones
        are drawn with `seed`. Rules: sparseml's mask_creator.

        Elsewhere in each group the cheapest candidate goes, of equal ones the first, and those that
        hold most of what is pruned already come before others; `scope` and `seed` have no effect.

        Raises StageError if a cost is not finite, if the pattern has no such level, or if more is
        pruned already than asked for.
        """
        self.check_level(level)
        _check_finite(costs)
        if self.groups_compete:
            alive = {name: self._alive(name, cost, keep) for name, cost in costs.items()}
            pools = [list(costs)] if scope == "global" else [[name] for name in costs]
            goes: dict[str, Tensor] = {}
            for pool in pools:
                goes |= _lowest({n: costs[n] for n in pool}, alive, level, seed)
            kept = {name: self.spread(~groups) for name, groups in goes.items()}
        else:
            kept = {name: self._without_cheapest(name, costs[name], keep) for name in costs}
        if keep is None:
            return kept
        return {name: mask.logical_and_(keep[name]) for name, mask in kept.items()}

    def check_level(self, level: float) -> None:
        """StageError for a level that the pattern does not have."""

    def _alive(self, name: str, cost: Tensor, keep: dict[str, Tensor] | None) -> Tensor:
        """Groups that still have a kept weight."""
        if keep is None:
            return torch.ones_like(cost, dtype=torch.bool)
        return keep[name] if self.size == 1 else self.grouped(keep[name], name).any(dim=-1)

    def _without_cheapest(self, name: str, cost: Tensor, keep: dict[str, Tensor] | None) -> Tensor:
        """What one candidate a group leaves, (out, in)."""
        if keep is not None:
            gone = ~self.grouped(keep[name], name)
            held = torch.stack([gone[..., list(c)].sum(dim=-1) for c in self.candidates], dim=-1)
            cost = cost.masked_fill(held < held.amax(dim=-1, keepdim=True), torch.inf)
        return self._left.to(cost.device)[cost.argmin(dim=-1)].flatten(start_dim=1)

    @cached_property
    def _left(self) -> Tensor:
        """What each candidate leaves of a group: bool (candidates, size)."""
        left = torch.ones(len(self.candidates), self.size, dtype=torch.bool)
        for row, candidate in enumerate(self.candidates):
            left[row, list(candidate)] = False
        return left


class Unstructured(Pattern):
    """Any weight may go."""

    def __init__(self) -> None:
        super().__init__("unstructured", 1, ((0,),))


class Block(Pattern):
    """Runs of `size` consecutive weights along the input dimension go together."""

    def __init__(self, size: int = 4) -> None:
        super().__init__(f"block{size}", size, (tuple(range(size)),))


class DensePattern(Pattern):
    """Nothing goes: the only level is 0."""

    def __init__(self) -> None:
        super().__init__("dense", 1, ((0,),))

    def check_level(self, level: float) -> None:
        if level != 0:
            raise StageError(
                f"the dense pattern cannot have a sparsity of {level:g}. Choose another"
                " sparsity.pattern: unstructured, block4 or 2of4."
            )


class NofM(Pattern):
    """In each group of `m` consecutive weights exactly `n` stay; there is one level, 1 - n/m."""

    def __init__(self, n: int = 2, m: int = 4) -> None:
        super().__init__(f"{n}of{m}", m, tuple(combinations(range(m), m - n)))
        self.n = n

    @property
    def gradual(self) -> bool:
        return False

    def check_level(self, level: float) -> None:
        only = 1.0 - self.n / self.size
        if abs(level - only) > 1e-6:
            raise StageError(
                f"pattern {self.name} has a sparsity of {only:g} and no other; {level:g} was asked"
                f" for. Set sparsity.level={only:g}, with a single pruning step."
            )


def pattern_named(name: str) -> Pattern:
    """The pattern of a recipe's `sparsity.pattern`. RequestError if there is none."""
    patterns: dict[str, Pattern] = {
        p.name: p for p in (DensePattern(), Unstructured(), Block(4), NofM(2, 4))
    }
    if name not in patterns:
        raise RequestError(f"no sparsity pattern {name!r}. Choose one of: {', '.join(patterns)}.")
    return patterns[name]


def _check_finite(costs: dict[str, Tensor]) -> None:
    for name, cost in costs.items():
        if not bool(torch.isfinite(cost).all()):
            raise StageError(
                f"pruning costs of layer {name} are not finite: its weights or gradients"
                " overflowed. Lower the learning rate, or start from another checkpoint."
            )


def _lowest(
    costs: dict[str, Tensor], alive: dict[str, Tensor], level: float, seed: int
) -> dict[str, Tensor]:
    """True at the round(level * N) groups to prune: all dead ones, then the lowest costs."""
    total = sum(cost.numel() for cost in costs.values())
    device = next(iter(costs.values())).device
    candidates = torch.cat([cost[alive[name]].to(device) for name, cost in costs.items()])
    dead = total - candidates.numel()
    need = round(level * total) - dead
    if need < 0:
        where = "the layers" if len(costs) > 1 else f"layer {next(iter(costs))}"
        raise StageError(
            f"{dead / total:.4%} of {where} is pruned already, more than the {level:.4%} asked for,"
            " and masks only grow. Ask for a higher sparsity, or start from a denser model."
        )
    goes = torch.zeros_like(candidates, dtype=torch.bool)
    if need:
        threshold = torch.kthvalue(candidates, need).values
        torch.lt(candidates, threshold, out=goes)
        below = int(goes.sum())
        ties = torch.nonzero(candidates == threshold).flatten()
        missing = need - below
        if below == 0 and missing < len(ties):
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randperm(len(ties), generator=generator)[:missing]
            ties = ties[drawn.to(device)]
        else:
            ties = ties[len(ties) - missing :]
        goes[ties] = True
    pruned = {}
    for name, part in zip(costs, goes.split([int(alive[n].sum()) for n in costs]), strict=True):
        pruned[name] = ~alive[name]
        pruned[name][alive[name]] = part.to(alive[name].device)
    return pruned
