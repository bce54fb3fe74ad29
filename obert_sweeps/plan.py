"""The plan: cells become a DAG of stages, each shared by every cell that needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from .catalogue.cell import Cell
from .catalogue.tables import cells as catalogue_cells
from .chain import Chain
from .compose import Composer
from .inputs import Blocked, Inputs
from .request import OVERLAYS, Loaded
from .resources import gpus_of, needs_gpu
from .schema import RequestError, Stage, is_training
from .selection import select


@dataclass
class CellPlan:
    """What a cell's result is made of."""

    cell: Cell
    selected: bool
    finals: dict[int, str] = field(default_factory=dict)  # seed -> the stage that gives the result
    stages: list[str] = field(default_factory=list)  # every stage it needs, parents first
    blocked: str | None = None
    stand_in: bool = False
    assumed: dict[str, str] = field(default_factory=dict)
    knobs: dict[str, Any] = field(default_factory=dict)  # see report.source.CellPlan
    comparison: str | None = None  # what was made equal; None: as published


@dataclass
class Plan:
    """Stages in an order in which parents come first, and the cells they serve."""

    stages: dict[str, Stage]
    cells: dict[str, CellPlan]
    seeds: list[int]
    preset: str
    comparison: str = "as published: each method's own schedule"
    first: set[str] = field(default_factory=set)  # stages that go before longer paths

    def selected(self) -> list[CellPlan]:
        return [c for c in self.cells.values() if c.selected]

    def wanted(self) -> list[Stage]:
        """The stages of the selected cells, parents first."""
        ids = {i for c in self.selected() for i in c.stages}
        return [s for s in self.stages.values() if s.id in ids]


def make_plan(loaded: Loaded) -> Plan:
    """Plan a request.

    Raises RequestError when the request is wrong: no cell matches, an override touches no stage,
    data or checkpoints are broken, every selected cell is blocked for want of them, or the pruning
    steps do not fit the training.
    """
    planner = Planner(loaded)
    chosen = select(loaded)
    cells = {c.id: planner.cell(c, selected=True) for c in chosen}
    _refuse_if_nothing_can_run(cells)
    planner.check_touched()
    for cell in chosen:  # the dense models that recoveries are taken against, run or not
        if cell.baseline and cell.baseline not in cells:
            cells[cell.baseline] = planner.cell(planner.catalogue[cell.baseline], selected=False)
    plan = Plan(planner.stages, cells, planner.seeds, planner.composer.preset["name"])
    plan.comparison = planner.comparison or plan.comparison
    plan.first = planner.first(plan)
    return plan


class Planner:
    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.request = loaded.request
        self.composer = Composer(loaded)
        self.inputs = Inputs()
        self.catalogue = {c.id: c for c in catalogue_cells()}
        self.stages: dict[str, Stage] = {}
        self.seeds = _seeds(self.request)
        self.stand_in = (
            bool(self.request.preset.stand_in)
            or any(value is not None for value in self.request.budget.values())
            or self.request.comparison != "as_published"
        )
        self.comparison = None
        if self.request.comparison == "equal_budget":
            self.comparison = f"at equal budget: {self.composer.equal_budget()}"
        self._chains: dict[tuple[Any, ...], Chain] = {}

    def cell(self, cell: Cell, selected: bool) -> CellPlan:
        planned = CellPlan(cell, selected, stand_in=self.stand_in)
        if cell.method != "dense":
            planned.comparison = self.comparison
        try:
            chains = {seed: self.chain(cell, seed) for seed in self.seeds}
        except Blocked as reason:
            return replace(planned, blocked=str(reason))
        planned.finals = {seed: chain.final for seed, chain in chains.items()}
        planned.stages = self.ancestry(planned.finals.values())
        first = chains[self.seeds[0]]
        recipes = {role: self.stages[i].recipe for role, i in first.made.items()}
        *earlier, (_, last) = [item for item in recipes.items() if is_training(item[1])]
        planned.assumed = first.assumed
        planned.knobs = {
            **last,
            "earlier": dict(earlier),
            "not_taken": first.notes.get("not_taken", {}),
        }
        return planned

    def chain(self, cell: Cell, seed: int) -> Chain:
        """The chain of a cell and seed, its stages made."""
        chosen = (cell.method, cell.pattern, cell.sparsity, cell.schedule, cell.distill)
        key = (cell.task, cell.model, *chosen, seed)
        if key not in self._chains:
            self._chains[key] = self._plan_chain(cell, seed)
        return self._chains[key]

    def _plan_chain(self, cell: Cell, seed: int) -> Chain:
        for group, name in (("method", cell.method), ("schedule", cell.schedule)):
            if name not in self.loaded.leaves[group]:
                raise Blocked(f"{group} '{name}' has no leaf in conf/{group}/")
        links, notes = self.composer.links(cell.schedule, cell)
        if not gpus_of(self.request.cluster):
            links = {role: link for role, link in links.items() if not needs_gpu(link)}
        chain = Chain(self, cell, links, notes, seed)
        chain.stage(list(links)[-1])
        return chain

    def dense_model(self, cell: Cell) -> str:
        """The model of the dense cell that this one is measured against: its own, mostly."""
        return self.catalogue[cell.baseline].model if cell.baseline else cell.model

    def ancestry(self, ids: Any) -> list[str]:
        needed = with_ancestors(ids, lambda stage: self.stages[stage].parents)
        return [i for i in self.stages if i in needed]

    def check_touched(self) -> None:
        """Refuse a budget or preset override that no selected stage feels."""
        for key, value in self.request.budget.items():
            if value is not None and f"budget.{key}" not in self.composer.touched:
                raise RequestError(
                    f"budget.{key}={value} touches no stage of the selected cells. Leave it out, "
                    "or select cells that it changes."
                )
        for override in self.loaded.overrides:
            part = ".".join(override.key_or_group.split(".")[:3])
            groups = (*OVERLAYS, "equal_budget")
            overlay = part.startswith(tuple(f"preset.{group}." for group in groups))
            if overlay and part not in self.composer.touched:
                raise RequestError(
                    f"'{override.input_line}' touches no stage of the selected cells. Leave it out."
                )
        if "task" in self.loaded.leaf_overrides and self.request.data_root is None:
            for override in self.loaded.leaf_overrides["task"]:
                if override.key_or_group == "task.data":
                    raise RequestError(
                        f"'{override.input_line}' names a folder below data_root, and there is no "
                        "data_root. Use data_root=DIR too."
                    )

    def first(self, plan: Plan) -> set[str]:
        globs = self.composer.preset["first"] or []
        chosen = [c for c in plan.selected() if any(fnmatchcase(c.cell.id, g) for g in globs)]
        return {i for c in chosen for i in c.stages}


def with_ancestors(ids: Iterable[str], parents: Callable[[str], dict[str, str]]) -> set[str]:
    """These stages and all they descend from; `parents` gives a stage's, by role."""
    found: set[str] = set()
    waiting = list(ids)
    while waiting:
        stage = waiting.pop()
        if stage not in found:
            found.add(stage)
            waiting.extend(parents(stage).values())
    return found


def _seeds(request: Any) -> list[int]:
    given, known = request.seeds, list(request.preset.seeds)
    if given is None:
        return known
    if isinstance(given, int):
        if given < 1:
            raise RequestError(f"seeds={given}: at least one. Use seeds=1 or seeds=[42,7].")
        return known[:given] + [known[0] + i for i in range(1, given - len(known) + 1)]
    if not given or any(not isinstance(s, int) for s in given):
        raise RequestError(f"seeds={given} is not a list of whole numbers. Use seeds=[42,3407].")
    return [int(s) for s in given]


def _refuse_if_nothing_can_run(cells: dict[str, CellPlan]) -> None:
    reasons = [c.blocked for c in cells.values()]
    if all(reasons):
        raise RequestError(f"nothing can run: {reasons[0]}")
