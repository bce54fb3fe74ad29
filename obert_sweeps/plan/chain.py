"""From a cell's schedule to its chain of stages, made from the last link backwards."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ..catalogue.cell import Cell
from ..catalogue.tables import cell_named
from ..deploy.check import check_benchmark
from ..identity import digest, identity
from ..request.read import Loaded
from ..schema import RequestError, Stage, is_training
from ..train.check import check_fits
from .compose import Composer
from .cost import estimate
from .inputs import Blocked, Inputs
from .known_logits import can_be_known, logits_stage
from .link import AnyLink, DeployLink
from .method_code import Code, Codes
from .recorded import Recorded
from .resources import asks_once, divides, gpus_of, uses_gpu, workers_of
from .unlike import other_model, other_rows


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
        """The id of a link's stage; its parents are made on the way."""
        chains, link = self.chains, self.links[role]
        recipe, provenance = chains.composer.recipe(self.cell, role, link)
        seed = self.seed_of(link)
        parents = self.parents(role, link, recipe)
        self.note_assumed(link, provenance)
        origin = chains.inputs.weights_of(recipe["model"])
        data = chains.inputs.data_of(recipe["task"])
        rewinds_to_checkpoint = link.rewind is not None and "rewind" not in parents
        loads = "start" not in parents or rewinds_to_checkpoint
        weights = origin["fingerprint"] if loads else None
        code = chains.codes.of(recipe["method"]["_target_"]) if is_training(recipe) else Code()
        hashed = identity(recipe, seed, parents, data.fingerprint, weights, code.version)
        stage_id = self.ids[role] = digest(hashed)
        if stage_id in chains.stages:
            return stage_id
        gone = [why for why in (data.gone, origin.get("gone")) if why]
        before = chains.recorded.stage(stage_id) if gone else None
        if gone and before is None:
            raise Blocked(gone[0])
        chains.gone |= dict.fromkeys(gone)
        if "teacher" in parents and recipe["training"]["distill"]["hardness"]:
            parents = parents | self.logits(recipe, parents["teacher"])
        if before is None:
            self.check(role, stage_id, recipe, data.rows, origin["config"])
        cluster = chains.request.cluster
        gpus = gpus_of(cluster) if uses_gpu(recipe) else 0.0
        workers = workers_of(cluster, gpus) if divides(recipe) else 1
        asks = "teacher" in parents and "logits" not in parents
        tags = self.tags(role, link, recipe, parents)
        if before is None:
            unlike = other_rows(recipe["task"], data.rows)
            unlike += other_model(recipe["model"], origin["config"])
            cost = estimate(recipe, data.rows, origin["config"], asks, gpus > 0, workers)
        else:
            unlike, cost = before["notes"].get("unlike", []), before["cost"]
        # A cell of one's own is what was said of it; one of the document is not as published.
        changed = bool(self.cell.table and (provenance["changed"] or unlike))
        changed = changed or any(chains.stages[i].stand_in for i in parents.values())
        chains.stages[stage_id] = Stage(
            id=stage_id,
            name=stage_name(tags, seed),
            recipe=recipe,
            seed=seed,
            parents=parents,
            identity=hashed,
            tags=tags,
            stand_in=chains.stand_in or changed or bool(before and before["stand_in"]),
            resources={"cpu": float(cluster.cpus_per_stage), "gpu": gpus},
            workers=workers,
            cost=cost,
            notes={
                "schedule": self.notes,
                **provenance,
                "unlike": unlike,
                "method_code": code.digest,
            },
        )
        return stage_id

    def check(
        self,
        role: str,
        stage_id: str,
        recipe: dict[str, Any],
        rows: dict[str, int],
        config: dict[str, Any],
    ) -> None:
        """RequestError where a stage could not do what its recipe says; notes its pruning steps."""
        if is_training(recipe):
            where = f"stage '{role}' on {recipe['task']['name']}"
            steps = check_fits(where, recipe, rows, config)
            self.chains.pruning |= {stage_id: steps} if steps else {}
        check_benchmark(role, recipe, config)

    def logits(self, recipe: dict[str, Any], teacher: str) -> dict[str, str]:
        """The stage that says the teacher's logits of a student's rows, by its role; or nothing."""
        chains = self.chains
        if not asks_once(chains.request.cluster) or not can_be_known(recipe["task"]):
            return {}
        stage = logits_stage(recipe, chains.stages[teacher], chains.inputs)
        chains.stages.setdefault(stage.id, stage)
        return {"logits": stage.id}

    def seed_of(self, link: AnyLink) -> int:
        """Upstream models are made once: they take base_seed unless vary=all."""
        if link.task != "cell" and self.chains.request.vary == "result":
            return int(self.chains.request.base_seed)
        return self.seed

    def parents(self, role: str, link: AnyLink, recipe: dict[str, Any]) -> dict[str, str]:
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

    def tags(
        self, role: str, link: AnyLink, recipe: dict[str, Any], parents: dict[str, str]
    ) -> dict[str, str]:
        """What people call a stage by: also by which method and how far its model is pruned."""
        own = link.method == "cell" or not is_training(recipe)
        method = self.cell.method if own else "dense"
        sparsity = sparsity_label(recipe["sparsity"])
        if is_training(recipe) and recipe["training"]["lock_pattern"]:  # pruned, perhaps elsewhere
            target = {"pattern": self.cell.pattern, "level": self.cell.sparsity}
            method, sparsity = self.cell.method, sparsity_label(target)
        if sparsity == "dense":  # what follows a pruning stage keeps its masks
            for part in ("start", "masks"):  # the latter go before
                before = self.chains.stages[parents[part]].tags if part in parents else {}
                if before.get("sparsity", "dense") != "dense":
                    method, sparsity = before["method"], before["sparsity"]
        return {
            "task": recipe["task"]["name"],
            "model": recipe["model"]["name"],
            "method": method,
            "sparsity": sparsity,
            "role": role,
        }


def stage_name(tags: dict[str, str], seed: int) -> str:
    """What a person calls the stage; "dense" is said once, though role, method and sparsity are."""
    words = [tags[key] for key in ("role", "task", "model", "method", "sparsity")]
    return f"{' '.join(dict.fromkeys(words))} seed {seed}"


def dense_of(cell: Cell) -> Cell:
    """The dense fine-tuned model of a cell's task: its teacher, or where it starts."""
    return replace(
        cell, method="dense", pattern="dense", sparsity=0.0, schedule="dense", distill="none"
    )


def sparsity_label(sparsity: dict[str, Any]) -> str:
    if sparsity["pattern"] in ("dense", "2of4"):
        return str(sparsity["pattern"])
    return f"{sparsity['pattern']} {sparsity['level'] * 100:g}"
