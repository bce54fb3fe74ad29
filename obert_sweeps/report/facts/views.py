"""What the report needs of a plan and of a store."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol

from ...catalogue.cell import Cell
from ...schema import Stage


class CellView(Protocol):
    """A cell and the stages that make it."""

    cell: Cell
    selected: bool
    finals: dict[int, str]  # seed -> id of the stage whose result is the cell's
    stages: list[str]
    blocked: str | None  # why it cannot run
    stand_in: bool
    unlike: list[str]  # how its rows and its model visibly differ from the document's
    assumed: dict[str, str]  # recipe key -> why no source gives it
    knobs: dict[str, Any]
    """The resolved recipe of its last stage; `earlier`, if there, those of its chain's stages
    before it, by role; `not_taken` what its authors set for the task and no recipe here does."""
    comparison: str | None  # what was made equal for all methods; None: as published

    @property
    def metric(self) -> str:
        """What its recovery, rank and curves are taken on."""


class PlanView(Protocol):
    """The cells of a request and the stages they are made of."""

    stages: dict[str, Stage]
    comparison: str  # how its methods are compared, in words
    said: tuple[str, ...]  # what the request says of all cells: its preset, a budget, …
    gone: list[str]  # why inputs are not at hand, whose stages are taken as the store has them

    @property
    def cells(self) -> Mapping[str, CellView]: ...


class StoreView(Protocol):
    """A stage's stage.json, result.json and failure.json; None where there is none."""

    def stage(self, stage_id: str) -> dict[str, Any] | None: ...

    def result(self, stage_id: str) -> dict[str, Any] | None: ...

    def failure(self, stage_id: str) -> dict[str, Any] | None: ...


class Folder(Protocol):
    """What a stage left beside its result."""

    def record_lines(self) -> list[bytes]: ...

    def last_record(self) -> dict[str, Any] | None: ...


class StagesView(StoreView, Protocol):
    """A store, all that it holds and the folders of its stages."""

    def ids(self) -> list[str]: ...

    def folder(self, stage_id: str) -> Folder: ...


class Once:
    """A store that reads each file once: cells share stages, and a report asks for them again."""

    def __init__(self, store: StoreView) -> None:
        self.stage = cache(store.stage)
        self.result = cache(store.result)
        self.failure = cache(store.failure)
