"""From a request to recipes: what each stage of a cell's chain is made of, as plain data.

What a leaf's keys come to, later ones winning: the leaf's YAML, what the schedule says for a
method, the preset, the user's overrides, the budget.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..catalogue.cell import Cell
from ..request.read import Loaded
from ..request.selection import level_of
from ..schema import Benchmark, EqualBudget, RequestError, first_line, role_group
from ..train.check import check_values
from .assumed import concerning
from .changes import changes
from .cost import capped
from .link import AnyLink, DeployLink, Link, at_equal_budget, in_rounds
from .rows_from import rows_from
from .stretch import shorten

PRESET_GROUPS = ("task", "model", "method")  # the groups whose leaves a preset may change


@dataclass
class Composer:
    """Recipes of one request. `touched` holds what of it changed a stage: see `untouched`."""

    loaded: Loaded
    touched: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.request = self.loaded.request
        self.choices = self.loaded.choices
        self.leaf_overrides = self.loaded.leaf_overrides
        self.leaves = self.loaded.leaves
        self.preset = to_plain(self.request.preset)
        # Hundreds of chains are made of a few dozen leaves and links, and merging them is slow.
        self._leaves: dict[str, dict[str, Any]] = {}
        self._links: dict[tuple[str, bool], dict[str, AnyLink]] = {}

    def leaf(self, group: str, name: str, between: dict[str, Any] | None = None) -> dict[str, Any]:
        """A leaf's keys after the schedule's (`between`), the preset's and the user's word."""
        key = json.dumps([group, name, between], sort_keys=True)
        if key not in self._leaves:
            self._leaves[key] = self._merged_leaf(group, name, between)
        return copy.deepcopy(self._leaves[key])

    def _merged_leaf(self, group: str, name: str, between: dict[str, Any] | None) -> dict[str, Any]:
        if name not in self.leaves[group]:
            raise RequestError(
                f"there is no {group} '{name}'. Known: {', '.join(sorted(self.leaves[group]))}."
            )
        node = OmegaConf.create(copy.deepcopy(self.leaves[group][name]))
        OmegaConf.set_struct(node, True)
        what = f"{group} '{name}'"
        if between:
            node = strict_merge(node, between, f"what the schedule says of {what}")
        overlay = dict(self.preset[group]) if group in PRESET_GROUPS else {}
        if group == "task" and node.get("source") == "folder":  # own rows are never generated ones
            overlay["*"] = {k: v for k, v in overlay.get("*", {}).items() if k != "source"}
        for key in ("*", name):
            if overlay.get(key):
                node = strict_merge(node, overlay[key], f"preset.{group}.{key}")
                self.touched.add(f"preset.{group}.{key}")
        if self.choices.get(group) == name:
            for override in self.leaf_overrides.get(group, []):
                key = override.key_or_group.split(".", 1)[1]
                OmegaConf.update(node, key, override.value(), force_add=False)
        return to_plain(node)

    def links(self, schedule: str, cell: Cell) -> tuple[dict[str, AnyLink], dict[str, Any]]:
        """The chain of a schedule for a cell, and where it comes from (source, assumed).

        `<schedule>_<task>.yaml` is taken where there is one, else `<schedule>.yaml`. At an equal
        budget no schedule is of one task; dense models, which others are measured against and
        taught by, keep their own.
        """
        equal = self.request.comparison == "equal_budget" and cell.method != "dense"
        specific = f"{schedule}_{cell.task}"
        own = specific in self.leaves["schedule"] and not equal
        said = self.choices.get("schedule") == schedule
        name = specific if own and not said else schedule
        leaf = self.leaf("schedule", name)
        if (name, said) not in self._links:
            self._links[name, said] = self._merged_links(name, leaf["stages"], said)
        links = copy.deepcopy(self._links[name, said])
        assumed = concerning(leaf["assumed"], cell)
        assumed = {key: why for key, why in assumed.items() if key.split(".")[0] in links}
        target = 0.0 if cell.pattern == "dense" else self.sparsity_of(cell)["level"]
        notes = {"schedule": name, "source": leaf["source"], "assumed": assumed}
        notes |= {"not_taken": leaf["not_taken"]} if leaf.get("not_taken") else {}
        chain = in_rounds(links, target)
        return at_equal_budget(chain, self.equal_budget()) if equal else chain, notes

    def _merged_links(self, name: str, stages: dict[str, Any], said: bool) -> dict[str, AnyLink]:
        """The links of schedule `name` by role; `said`: the user's word on it counts."""
        overlay = self.preset["stages"]
        links: dict[str, AnyLink] = {}
        for role, stage in stages.items():
            node = OmegaConf.structured(_empty(stage, f"schedule '{name}', stage '{role}'"))
            node = strict_merge(node, stage, f"schedule '{name}', stage '{role}'")
            every = ["*"] if stage.get("kind", "train") == "train" else []
            for key in [*every, role]:
                if overlay.get(key):
                    node = strict_merge(node, overlay[key], f"preset.stages.{key}")
                    self.touched.add(f"preset.stages.{key}")
            if said:  # the user's word is the last
                node = self._restate(node, role)
            links[role] = OmegaConf.to_object(node)  # type: ignore[assignment]
        return links

    def equal_budget(self) -> EqualBudget:
        """What comparison=equal_budget gives each method: the preset's, in the budget's epochs."""
        budget = EqualBudget(**self.preset["equal_budget"])
        self.touched |= {f"preset.equal_budget.{key}" for key in self.preset["equal_budget"]}
        if self.request.budget.max_epochs is not None:
            budget.epochs = min(budget.epochs, self.request.budget.max_epochs)
        return budget

    @property
    def comparison(self) -> str | None:
        """What is made equal for all methods, in words; None: as published."""
        equal = self.request.comparison == "equal_budget"
        return f"at equal budget: {self.equal_budget()}" if equal else None

    def _restate(self, node: Any, role: str) -> Any:
        for override in self.leaf_overrides.get("schedule", []):
            prefix = f"schedule.stages.{role}."
            if override.key_or_group.startswith(prefix):
                OmegaConf.update(node, override.key_or_group[len(prefix) :], override.value())
        return node

    def recipe(self, cell: Cell, role: str, link: AnyLink) -> tuple[dict[str, Any], dict[str, Any]]:
        """The recipe of one link for a cell, and its provenance (not hashed).

        RequestError for values with which nothing can be trained.
        """
        task_name = cell.task if link.task == "cell" else link.task
        method_name = cell.method if link.method in ("cell", None) else link.method
        uses = {"task": task_name, "model": cell.model, "method": method_name}
        notes: dict[str, Any] = {"method_source": "", "method_assumed": {}}
        notes["changed"] = changes(self.loaded.overrides, self.choices, uses, role)
        if isinstance(link, DeployLink):
            return self.deploy_recipe(cell, link), notes
        task = self.task(task_name)
        between = link.method_overrides.get(method_name)
        method = self.leaf("method", method_name, between)
        sparsity = {"pattern": "dense", "level": 0.0}
        if link.method == "cell" and cell.pattern != "dense":
            sparsity = self.sparsity_of(cell)
            if link.level is not None:
                sparsity["level"] = link.level
        budget = self.request.budget
        if budget.max_fisher_gradients is not None and "num_grads" in method:
            method["num_grads"] = min(method["num_grads"], budget.max_fisher_gradients)
            self.touched.add("budget.max_fisher_gradients")
        where, key = f"stage '{role}' on {task['name']}", self._key_of(role)
        if link.level is not None and not 0 < link.level < 1:
            raise RequestError(
                f"{where} has level={link.level:g}: it is the share of prunable weights that go,"
                f" between 0 and 1. For instance: {key}.level=0.9"
            )
        training = self.training_of(cell, link, where, key)
        check_values(training, where, key)
        notes["method_source"] = method.pop("source", "")
        notes["method_assumed"] = concerning(method.pop("assumed", None), cell, between or ())
        recipe = {
            "kind": "train",
            "task": task,
            "model": self.model(cell.model, link.checkpoint),
            "method": method,
            "sparsity": sparsity,
            "training": training,
        }
        return recipe, notes

    def task(self, name: str) -> dict[str, Any]:
        """A task's leaf, pointed at where the request says that its rows are."""
        task = self.leaf("task", name)
        task.pop("note", None)
        own = self.leaf_overrides.get("task", []) if self.choices.get("task") == name else []
        said = {o.key_or_group.removeprefix("task.") for o in own}
        return rows_from(task, said, self.request.data_root)

    def model(self, name: str, between: dict[str, Any] | None = None) -> dict[str, Any]:
        """A model's leaf; its path is absolute, since stages run in other folders."""
        model = self.leaf("model", name, between)
        model.pop("note", None)
        if model.get("path"):
            model["path"] = str(Path(model["path"]).expanduser().resolve())
        return model

    def deploy_recipe(self, cell: Cell, link: DeployLink) -> dict[str, Any]:
        """Of a stage after training: what the model is, and how it is measured."""
        model = self.model(cell.model)
        dense = {"pattern": "dense", "level": 0.0}
        recipe = {
            "kind": link.kind,
            "task": self.task(cell.task),
            "model": model,
            "sparsity": dense if cell.pattern == "dense" else self.sparsity_of(cell),
        }
        if link.benchmark is None:
            return recipe
        benchmark, rows = asdict(link.benchmark), self.request.budget.max_eval_rows
        if rows is not None:
            benchmark["max_eval_rows"] = capped(rows, benchmark["max_eval_rows"])
            self.touched.add("budget.max_eval_rows")
        return recipe | {"benchmark": benchmark}

    def sparsity_of(self, cell: Cell) -> dict[str, Any]:
        """A pattern's leaf at the cell's level. RequestError for a level that is impossible."""
        return self.leaf("sparsity", cell.pattern) | {"level": level_of(cell.sparsity)}

    def _key_of(self, role: str) -> str:
        """Where a request says what a link's stage is like."""
        written, chosen = role_group(role), self.choices.get("schedule")
        own = chosen is not None and written in self.leaves["schedule"][chosen]["stages"]
        return f"{'schedule' if own else 'preset'}.stages.{written}"

    def training_of(self, cell: Cell, link: Link, where: str, key: str) -> dict[str, Any]:
        """A link's training under the request's budget, with the cell's distillation or none.

        `where` and `key`: what the stage is called in messages, and which key says what it is like.
        RequestError for a distillation that is none.
        """
        training = link.training()
        if link.distill == "cell":
            training.distill = self.distill_of(cell)
        budget = self.request.budget
        if budget.max_epochs is not None and training.epochs > 0:
            self.touched.add("budget.max_epochs")
            training = shorten(training, budget.max_epochs)
        for limit in ("max_train_rows", "max_eval_rows"):
            if budget[limit] is not None:
                setattr(training, limit, capped(budget[limit], getattr(training, limit)))
                self.touched.add(f"budget.{limit}")
        plain = asdict(training)
        distill = plain["distill"]
        if distill is not None and (
            not isinstance(distill, dict) or distill.keys() != {"hardness", "temperature"}
        ):
            raise RequestError(
                f"{where} has distill={distill}: it is cell, null, or a hardness and a temperature."
                f" For instance: '{key}.distill={{hardness: 1.0, temperature: 2.0}}'"
            )
        if distill is not None and distill["hardness"] == 0:
            plain["distill"] = None
        return plain

    def distill_of(self, cell: Cell) -> Any:
        """The leaf of the cell's distillation."""
        self.touched.add(f"distill.{cell.distill}")
        return self.leaf("distill", cell.distill)


def _empty(stage: dict[str, Any], what: str) -> AnyLink:
    """A link of the kind that a schedule's stage is, without what the stage says."""
    kind = stage.get("kind", "train")
    if kind == "train":
        return Link(epochs=0, batch_size=1, learning_rate=[])
    if kind == "export":
        return DeployLink(kind, start="")
    if kind == "benchmark":
        return DeployLink(kind, start="", benchmark=Benchmark())
    raise RequestError(f"{what}: kind '{kind}' is unknown. Choose train, export or benchmark.")


def strict_merge(node: Any, overlay: Any, what: str) -> Any:
    """Merge, refusing keys that are not there and values of another type."""
    try:
        return OmegaConf.merge(node, overlay)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or getattr(error, "key", "")
        raise RequestError(f"{what}: '{key}' is refused: {first_line(error)}") from error


def to_plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True)
