"""The plan: cells become a DAG of stages, each shared by every cell that needs it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import count, islice
from typing import Any

from omegaconf import ListConfig

from ..catalogue.cell import Cell, primary_metric
from ..catalogue.tables import cell_named
from ..request.read import Loaded
from ..request.selection import said_of_all, select
from ..request.untouched import refuse_untouched
from ..schema import RequestError, Stage, is_training
from ..store import Store
from .ancestry import with_ancestors
from .cell_check import check_cell
from .chain import Chains
from .inputs import Blocked
from .recorded import Recorded


@dataclass
class CellPlan:
    """What a cell's result is made of."""

    cell: Cell
    selected: bool
    finals: dict[int, str] = field(default_factory=dict)  # seed -> the stage that gives the result
    stages: list[str] = field(default_factory=list)  # every stage it needs, parents first
    blocked: str | None = None
    stand_in: bool = False
    unlike: list[str] = field(default_factory=list)  # see report.facts.views.CellView
    assumed: dict[str, str] = field(default_factory=dict)
    knobs: dict[str, Any] = field(default_factory=dict)  # see report.facts.views.CellView
    comparison: str | None = None  # what was made equal; None: as published

    @property
    def metric(self) -> str:
        """What its recovery, rank and curves are taken on."""
        return primary_metric(self.cell.task, self.knobs.get("task"))


@dataclass
class Plan:
    """Stages in an order in which parents come first, and the cells they serve."""

    stages: dict[str, Stage]
    cells: dict[str, CellPlan]
    seeds: list[int]
    preset: str
    gone: list[str] = field(default_factory=list)
    """Why inputs are not at hand whose stages are taken as a store recorded them."""
    said: tuple[str, ...] = ()  # what the request says of all cells: its preset, a budget, …
    comparison: str = "as published: each method's own schedule"
    first: set[str] = field(default_factory=set)  # stages that go before longer paths
    pruning: dict[str, dict[int, float]] = field(default_factory=dict)
    """Stage -> its pruning steps: the optimiser step that each comes before -> the level."""

    def selected(self) -> list[CellPlan]:
        return [c for c in self.cells.values() if c.selected]

    def blocked(self) -> list[tuple[str, str]]:
        """Why selected cells cannot run, each with the cell."""
        return [(c.blocked, c.cell.id) for c in self.selected() if c.blocked]

    def wanted(self) -> list[Stage]:
        """The stages of the selected cells, parents first."""
        ids = {i for c in self.selected() for i in c.stages}
        return [s for s in self.stages.values() if s.id in ids]


def make_plan(loaded: Loaded, store: Store | None = None) -> Plan:
    """Plan a request.

    With a `store`, for a look at its results, cells whose data or checkpoints are gone are those
    that it holds (`gone` says so); without one they could not be run.

    A cell whose data or checkpoints are not at hand is blocked. Raises RequestError when the
    request is wrong: no cell matches, an override touches no stage, data or checkpoints are broken,
    a stage cannot be trained as its recipe says, the pruning steps do not fit the training, or a
    cell would not be the model that it is called.
    """
    chosen, seeds = select(loaded), _seeds(loaded.request)
    chains = Chains(loaded, Recorded(store))
    cells = {c.id: _cell(c, chains, seeds, selected=True) for c in chosen}
    if not all(c.blocked for c in cells.values()):  # of blocked cells it is not known what touches
        refuse_untouched(loaded, chains.composer.touched)
    for cell in chosen:  # the dense models that recoveries are taken against, run or not
        if cell.baseline and cell.baseline not in cells:
            baseline = cell_named(cell.baseline)
            cells[cell.baseline] = _cell(baseline, chains, seeds, selected=False)
    plan = Plan(chains.stages, cells, seeds, chains.composer.preset["name"])
    plan.said = said_of_all(loaded)
    plan.pruning = chains.pruning
    plan.gone = list(chains.gone)
    plan.comparison = chains.composer.comparison or plan.comparison
    globs = chains.composer.preset["first"] or []
    urgent = [c for c in plan.selected() if any(fnmatchcase(c.cell.id, g) for g in globs)]
    plan.first = {i for c in urgent for i in c.stages}
    return plan


def _cell(cell: Cell, chains: Chains, seeds: list[int], selected: bool) -> CellPlan:
    planned = CellPlan(cell, selected, stand_in=chains.stand_in)
    if cell.method != "dense":
        planned.comparison = chains.composer.comparison
    try:
        of_seeds = {seed: chains.of(cell, seed) for seed in seeds}
    except Blocked as reason:
        return replace(planned, blocked=str(reason))
    for chain in of_seeds.values():
        check_cell(chain)
    planned.finals = {seed: chain.final for seed, chain in of_seeds.items()}
    needed = set(
        with_ancestors(planned.finals.values(), lambda i: chains.stages[i].parents.values())
    )
    planned.stages = [i for i in chains.stages if i in needed]
    planned.stand_in = any(chains.stages[i].stand_in for i in planned.finals.values())
    if cell.table:
        planned.cell = replace(cell, settings=tuple(_noted("changed", planned.stages, chains)))
        planned.unlike = _noted("unlike", planned.stages, chains)
    one = of_seeds[seeds[0]]
    recipes = {role: chains.stages[i].recipe for role, i in one.ids.items()}
    *earlier, (_, last) = [item for item in recipes.items() if is_training(item[1])]
    planned.assumed = {**cell.assumed, **one.assumed}
    planned.knobs = {
        **last,
        "earlier": dict(earlier),
        "not_taken": one.notes.get("not_taken", {}),
    }
    return planned


def _noted(key: str, stages: list[str], chains: Chains) -> list[str]:
    """What makes a cell of the document another than published, as its stages' notes have it."""
    notes = (chains.stages[i].notes for i in stages)
    return sorted({line for said in notes for line in said.get(key, ())})


def _seeds(request: Any) -> list[int]:
    given, known = request.seeds, _each_once(list(request.preset.seeds), "preset.seeds")
    if not known:
        raise RequestError("preset.seeds=[] has no seed. Use preset.seeds=[42].")
    if given is None:
        return known
    if type(given) is int:  # true is no number here
        if given < 1:
            raise RequestError(f"seeds={given}: at least one. Use seeds=1 or seeds=[42,7].")
        more = (seed for seed in count(known[0] + 1) if seed not in known)
        return [*known[:given], *islice(more, max(0, given - len(known)))]
    if not isinstance(given, ListConfig) or not given or any(type(s) is not int for s in given):
        raise RequestError(
            f"seeds={str(given).lower()} is neither a whole number nor a list of them. Use "
            "seeds=3 or seeds=[42,3407]."
        )
    return _each_once([int(s) for s in given], "seeds")


def _each_once(seeds: list[int], key: str) -> list[int]:
    """A seed that is named twice gives one result, and a count of two would be wrong."""
    once = list(dict.fromkeys(seeds))
    if once != seeds:
        said = str(once).replace(" ", "")
        raise RequestError(f"{key}={seeds} names a seed twice. Use {key}={said}.")
    return seeds
