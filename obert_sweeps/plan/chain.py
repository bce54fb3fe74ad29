"""From a cell's schedule to its chain of stages, made from the last link backwards."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ..catalogue.cell import Cell
from ..catalogue.tables import cell_named
from ..identity import digest, identity
from ..request.read import Loaded
from ..schema import RequestError, Stage, is_training
from .compose import Composer
from .cost import estimate
from .draft import Draft
from .inputs import Blocked, Inputs
from .known_logits import can_be_known, logits_stage
from .link import AnyLink, DeployLink
from .method_code import Code, Codes
from .names import stage_name, tags_of
from .recorded import Recorded
from .resources import asks_once, divides, gpus_of, uses_gpu, workers_of


class Chains:
    """The chains of a request's cells, each made once, and the stages that they share."""

    def __init__(self, loaded: Loaded, recorded: Recorded) -> None:
        self.request = loaded.request
        self.leaves = loaded.leaves
        self.composer = Composer(loaded)
        self.inputs = Inputs(recorded)
        self.recorded = recorded
        self.gone: dict[str, None] = {}  # why inputs that stages of the plan had are not at hand
        self.codes = Codes(list(self.request.allow_targets))
        self.stages: dict[str, Stage] = {}  # parents first
        self.pruning: dict[str, dict[int, float]] = {}  # stage -> its pruning steps
        self.stand_in = (
            bool(self.request.preset.stand_in)
            or any(value is not None for value in self.request.budget.values())
            or self.request.comparison != "as_published"
        )
        self._chains: dict[tuple[Any, ...], Chain] = {}

    def of(self, cell: Cell, seed: int) -> Chain:
        """The chain of a cell and seed, its stages made. Raises Blocked and RequestError."""
        chosen = (cell.method, cell.pattern, cell.sparsity, cell.schedule, cell.distill)
        key = (cell.task, cell.model, *chosen, seed)
        if key not in self._chains:
            for group, name in (("method", cell.method), ("schedule", cell.schedule)):
                if name not in self.leaves[group]:
                    raise Blocked(f"{group} '{name}' has no leaf in conf/{group}/")
            self._chains[key] = self.new(cell, cell.schedule, seed)
        return self._chains[key]

    def new(self, cell: Cell, schedule: str, seed: int) -> Chain:
        """A schedule's chain for a cell; without what needs a GPU where there is none."""
        links, notes = self.composer.links(schedule, cell)
        if not gpus_of(self.request.cluster):
            links = {role: link for role, link in links.items() if not link.needs_gpu}
        chain = Chain(self, cell, links, notes, seed)
        chain.stage(chain.last)
        return chain

    def dense_model(self, cell: Cell) -> str:
        """The model of the dense cell that this one is measured against: its own, mostly."""
        return cell_named(cell.baseline).model if cell.baseline else cell.model


@dataclass
class Chain:
    """The stages of one cell and seed, made from the last link backwards."""

    chains: Chains
    cell: Cell
    links: dict[str, AnyLink]
    notes: dict[str, Any]
    seed: int
    assumed: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)  # link -> its stage, parents first

    @property
    def last(self) -> str:
        return list(self.links)[-1]

    @property
    def final(self) -> str:
        """The id of the last stage, once it is made."""
        return self.ids[self.last]

    @property
    def exported(self) -> str:
        """The id of the stage that exports the chain's model, once it is made."""
        stages = self.chains.stages
        found = [i for i in self.ids.values() if stages[i].recipe["kind"] == "export"]
        if not found:
            raise RequestError(
                f"schedule '{self.notes['schedule']}' exports nothing that could be compared with."
                " Name one with a stage of kind export."
            )
        return found[-1]

    def stage(self, role: str) -> str:
        """The id of a link's stage, which is made on the way, after its parents.

        Raises Blocked and RequestError.
        """
        draft, stages = self.identify(role), self.chains.stages
        self.ids[role] = draft.id
        if draft.id not in stages:
            recorded = self.refuse(draft)
            stages[draft.id] = self.build(draft, recorded)
        return draft.id

    def identify(self, role: str) -> Draft:
        """What a link comes to in this cell, and what its stage's id is; makes its parents."""
        chains, link = self.chains, self.links[role]
        recipe, provenance = chains.composer.recipe(self.cell, role, link)
        seed, parents = self.seed_of(link), self.parents(role, link, recipe)
        self.note_assumed(link, provenance)
        origin = chains.inputs.weights_of(recipe["model"])
        data = chains.inputs.data_of(recipe["task"])
        rewinds_to_checkpoint = link.rewind is not None and "rewind" not in parents
        loads = "start" not in parents or rewinds_to_checkpoint
        weights = origin["fingerprint"] if loads else None
        code = chains.codes.of(recipe["method"]["_target_"]) if is_training(recipe) else Code()
        hashed = identity(recipe, seed, parents, data.fingerprint, weights, code.version)
        return Draft(
            id=digest(hashed),
            role=role,
            link=link,
            recipe=recipe,
            provenance=provenance,
            seed=seed,
            parents=parents,
            data=data,
            origin=origin,
            code=code,
            identity=hashed,
        )

    def refuse(self, draft: Draft) -> dict[str, Any] | None:
        """Blocked where inputs are gone, RequestError where the recipe could not be followed.

        A stage whose inputs are gone is taken as a store recorded it, if one has: the stage.json.
        Notes the pruning steps of the others.
        """
        chains = self.chains
        if gone := draft.gone:
            recorded = chains.recorded.stage(draft.id)
            if recorded is None:
                raise Blocked(gone[0])
            chains.gone |= dict.fromkeys(gone)
            return recorded
        if steps := draft.check():
            chains.pruning[draft.id] = steps
        return None

    def build(self, draft: Draft, recorded: dict[str, Any] | None) -> Stage:
        """The stage; what its inputs would tell is as `recorded` where they are gone."""
        chains, recipe, cluster = self.chains, draft.recipe, self.chains.request.cluster
        parents = draft.parents | self.logits(draft)
        gpus = gpus_of(cluster) if uses_gpu(recipe) else 0.0
        workers = workers_of(cluster, gpus) if divides(recipe) else 1
        if recorded is None:
            unlike, rows = draft.unlike, draft.data.rows
            asks = "teacher" in parents and "logits" not in parents
            cost = estimate(recipe, rows, draft.origin["config"], asks, gpus > 0, workers)
        else:
            unlike, cost = recorded["notes"].get("unlike", []), recorded["cost"]
        # A cell of one's own is what was said of it; one of the document is not as published.
        changed = bool(self.cell.table and (draft.provenance["changed"] or unlike))
        changed = changed or any(chains.stages[i].stand_in for i in parents.values())
        tags = tags_of(self.cell, draft.role, draft.link, recipe, self.pruned_before(parents))
        return Stage(
            id=draft.id,
            name=stage_name(tags, draft.seed),
            recipe=recipe,
            seed=draft.seed,
            parents=parents,
            identity=draft.identity,
            tags=tags,
            stand_in=chains.stand_in or changed or bool(recorded and recorded["stand_in"]),
            resources={"cpu": float(cluster.cpus_per_stage), "gpu": gpus},
            workers=workers,
            cost=cost,
            notes={
                "schedule": self.notes,
                **draft.provenance,
                "unlike": unlike,
                "method_code": draft.code.digest,
            },
        )

    def pruned_before(self, parents: dict[str, str]) -> list[dict[str, str]]:
        """The tags of the stages whose masks a stage with these parents keeps; the last counts."""
        before = (self.chains.stages[parents[k]].tags for k in ("start", "masks") if k in parents)
        return [tags for tags in before if tags.get("sparsity", "dense") != "dense"]

    def logits(self, student: Draft) -> dict[str, str]:
        """The stage that says the teacher's logits of a student's rows, by its role; or nothing."""
        chains, recipe = self.chains, student.recipe
        asks = "teacher" in student.parents and recipe["training"]["distill"]["hardness"]
        if not asks or not asks_once(chains.request.cluster) or not can_be_known(recipe["task"]):
            return {}
        stage = logits_stage(recipe, chains.stages[student.parents["teacher"]], chains.inputs)
        chains.stages.setdefault(stage.id, stage)
        return {"logits": stage.id}

    def seed_of(self, link: AnyLink) -> int:
        """Upstream models are made once: they take base_seed unless vary=all."""
        if link.task != "cell" and self.chains.request.vary == "result":
            return int(self.chains.request.base_seed)
        return self.seed

    def parents(self, role: str, link: AnyLink, recipe: dict[str, Any]) -> dict[str, str]:
        """The stages that a link's stage needs, by role; made on the way.

        RequestError where a name leads nowhere, or a stage distils without a teacher.
        """
        named = link.parents()
        if is_training(recipe) and recipe["training"]["distill"] is None:
            named.pop("teacher", None)
        elif is_training(recipe) and link.teacher is None:
            raise RequestError(
                f"stage '{role}' of schedule '{self.notes['schedule']}' distils but names no "
                "teacher. Use distill=none, or give the stage a teacher."
            )
        found = {part: self.reference(name) for part, name in named.items()}
        if isinstance(link, DeployLink) and link.against is not None:
            found["against"] = self.against(role, link)
        return {part: stage for part, stage in found.items() if stage}

    def reference(self, name: str) -> str | None:
        """The stage that a link's word for one means; None: the model's own checkpoint."""
        chains, request = self.chains, self.chains.request
        if name in self.links:
            return self.stage(name)
        if name == "checkpoint":
            return None
        if name == "dense":
            base = self.seed if request.vary == "all" else int(request.base_seed)
            return self.resting_on(chains.of(dense_of(self.cell), base)).final
        if name == "pretrained":
            schedule = request.preset.pretrain
            if schedule is None:
                return None
            return self.resting_on(chains.new(dense_of(self.cell), schedule, self.seed)).final
        raise RequestError(
            f"schedule '{self.notes['schedule']}' starts from '{name}', which is none of its "
            f"stages ({', '.join(self.links)}), nor checkpoint, pretrained or dense."
        )

    def against(self, role: str, link: DeployLink) -> str:
        """The stage of the model that a deployed one is compared with (see DeployLink)."""
        dense, name = dense_of(self.cell), str(link.against)
        if name == "dense":
            if link.kind == "export":
                raise RequestError(
                    f"stage '{role}' of schedule '{self.notes['schedule']}' is an export against"
                    " dense, a model as it was trained: it has no file to compare with. Use a"
                    " schedule that exports the dense model: against: dense_reference; or null."
                )
            return self.resting_on(self.chains.of(dense, self.seed)).final
        dense = replace(dense, model=self.chains.dense_model(self.cell), schedule=name)
        return self.resting_on(self.chains.of(dense, self.seed)).exported

    def resting_on(self, other: Chain) -> Chain:
        """A chain whose model this one starts from, is taught by or is compared with."""
        of = other.notes["schedule"]
        self.assumed |= {f"{of}.{key}": why for key, why in other.assumed.items()}
        return other

    def note_assumed(self, link: AnyLink, provenance: dict[str, Any]) -> None:
        self.assumed |= self.notes["assumed"]
        if link.method == "cell":
            for key, why in provenance["method_assumed"].items():
                self.assumed[f"method.{key}"] = why


def dense_of(cell: Cell) -> Cell:
    """The dense fine-tuned model of a cell's task: its teacher, or where it starts."""
    return replace(
        cell, method="dense", pattern="dense", sparsity=0.0, schedule="dense", distill="none"
    )
