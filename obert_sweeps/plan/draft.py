"""A stage before it is one: what its id tells of, and what its inputs are like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..deploy.check import check_benchmark
from ..schema import is_training
from ..train.check import check_fits
from .inputs import DataFacts
from .link import AnyLink
from .method_code import Code
from .unlike import other_model, other_rows


@dataclass(frozen=True)
class Draft:
    """What a link comes to in a cell."""

    id: str
    role: str
    link: AnyLink
    recipe: dict[str, Any]
    provenance: dict[str, Any]
    seed: int
    parents: dict[str, str]  # role -> id
    data: DataFacts
    origin: dict[str, Any]  # of its model's weights: see Inputs.weights_of
    code: Code
    identity: dict[str, Any]

    @property
    def gone(self) -> list[str]:
        """Why inputs are not at hand."""
        return [why for why in (self.data.gone, self.origin.get("gone")) if why]

    @property
    def unlike(self) -> list[str]:
        """In what its rows and its model are visibly other than the document's."""
        rows = other_rows(self.recipe["task"], self.data.rows)
        return rows + other_model(self.recipe["model"], self.origin["config"])

    def check(self) -> dict[int, float]:
        """RequestError where it could not do what its recipe says; its pruning steps, if any."""
        config, steps = self.origin["config"], dict[int, float]()
        if is_training(self.recipe):
            where = f"stage '{self.role}' on {self.recipe['task']['name']}"
            steps = check_fits(where, self.recipe, self.data.rows, config)
        check_benchmark(self.role, self.recipe, config)
        return steps
