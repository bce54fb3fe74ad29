"""From a cell's schedule to its chain of stages, made from the last link backwards."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .catalogue.cell import Cell
from .cost import estimate
from .deploy.check import check_benchmark
from .identity import digest, identity
from .known_logits import can_be_known, logits_stage
from .link import AnyLink, DeployLink, Link
from .resources import asks_once, divides, gpus_of, uses_gpu, workers_of
from .schema import RequestError, Stage, is_training
from .train.check import check_fits

if TYPE_CHECKING:
    from .plan import Planner


@dataclass
class Chain:
    """The stages of one cell and seed, made from the last link backwards."""

    planner: Planner
    cell: Cell
    links: dict[str, AnyLink]
    notes: dict[str, Any]
    seed: int
    assumed: dict[str, str] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)  # link -> its stage, parents first

    def stage(self, role: str) -> str:
        """The id of a link's stage; its parents are made on the way."""
        planner, link = self.planner, self.links[role]
        recipe, provenance = planner.composer.recipe(self.cell, role, link)
        seed = self.seed_of(link)
        parents = self.parents(role, link, recipe)
        self.note_assumed(role, provenance)
        origin = planner.inputs.weights_of(recipe["model"])
        rewinds = isinstance(link, Link) and link.rewind is not None
        rewinds_to_checkpoint = rewinds and "rewind" not in parents
        loads = "start" not in parents or rewinds_to_checkpoint
        weights = origin["fingerprint"] if loads else None
        data = planner.inputs.data_of(recipe["task"]).fingerprint
        hashed = identity(recipe, seed, parents, data, weights)
        stage_id = digest(hashed)
        self.made[role] = stage_id
        if stage_id not in planner.stages:
            if "teacher" in parents and recipe["training"]["distill"]["hardness"]:
                parents = parents | self.logits(recipe, parents["teacher"])
            planner.stages[stage_id] = self.make(
                stage_id, role, recipe, seed, parents, hashed, origin["config"], provenance
            )
        return stage_id

    def logits(self, recipe: dict[str, Any], teacher: str) -> dict[str, str]:
        """The stage that says the teacher's logits of a student's rows, by its role; or nothing."""
        planner = self.planner
        if not asks_once(planner.request.cluster) or not can_be_known(recipe["task"]):
            return {}
        stage = logits_stage(recipe, planner.stages[teacher], planner.inputs)
        planner.stages.setdefault(stage.id, stage)
        return {"logits": stage.id}

    @property
    def final(self) -> str:
        """The id of the last stage, once it is made."""
        return self.made[list(self.links)[-1]]

    @property
    def exported(self) -> str:
        """The id of the stage that exports the chain's model, once it is made."""
        kinds = {role: getattr(link, "kind", "train") for role, link in self.links.items()}
        roles = [role for role, kind in kinds.items() if kind == "export"]
        if not roles:
            raise RequestError(
                f"schedule '{self.notes['schedule']}' exports nothing that could be compared with."
                " Name one with a stage of kind export."
            )
        return self.made[roles[-1]]

    def seed_of(self, link: AnyLink) -> int:
        """Upstream models are made once: they take base_seed unless vary=all."""
        upstream = isinstance(link, Link) and link.task != "cell"
        if upstream and self.planner.request.vary == "result":
            return int(self.planner.request.base_seed)
        return self.seed

    def parents(self, role: str, link: AnyLink, recipe: dict[str, Any]) -> dict[str, str]:
        if isinstance(link, DeployLink):
            start = {"start": self.stage(link.start)}
            return start | ({"against": self.against(link.against)} if link.against else {})
        named = {"start": link.start, "masks": link.masks, "rewind": link.rewind}
        if recipe["training"]["distill"] is not None:
            named["teacher"] = link.teacher
            if link.teacher is None:
                raise RequestError(
                    f"stage '{role}' of schedule '{self.notes['schedule']}' distils but names no "
                    "teacher. Use distill=none, or give the stage a teacher."
                )
        found = {part: self.reference(name) for part, name in named.items() if name}
        return {part: stage for part, stage in found.items() if stage}

    def reference(self, name: str) -> str | None:
        planner = self.planner
        if name == "checkpoint":
            return None
        if name == "dense":
            base = self.seed if planner.request.vary == "all" else int(planner.request.base_seed)
            return planner.chain(dense_of(self.cell), base).final
        if name == "pretrained":
            schedule = planner.request.preset.pretrain
            if schedule is None:
                return None
            dense = dense_of(self.cell)
            links, notes = planner.composer.links(schedule, dense)
            chain = Chain(planner, dense, links, notes, self.seed)
            return chain.stage(list(links)[-1])
        if name not in self.links:
            raise RequestError(
                f"schedule '{self.notes['schedule']}' starts from '{name}', which is none of its "
                f"stages ({', '.join(self.links)}), nor checkpoint, pretrained or dense."
            )
        return self.stage(name)

    def against(self, name: str) -> str:
        """The stage of the model that a deployed one is compared with (see DeployLink)."""
        dense = dense_of(self.cell)
        if name == "dense":
            return self.planner.chain(dense, self.seed).final
        dense = replace(dense, model=self.planner.dense_model(self.cell), schedule=name)
        return self.planner.chain(dense, self.seed).exported

    def note_assumed(self, role: str, provenance: dict[str, Any]) -> None:
        self.assumed |= self.notes["assumed"]
        if self.prunes(role):
            for key, why in provenance["method_assumed"].items():
                self.assumed[f"method.{key}"] = why

    def prunes(self, role: str) -> bool:
        """Whether a link is of the cell's own method."""
        link = self.links[role]
        return isinstance(link, Link) and link.method == "cell"

    def pruned(self, role: str, recipe: dict[str, Any], parents: dict[str, str]) -> dict[str, str]:
        """By which method and how far the model is pruned that comes of a stage."""
        sparsity = sparsity_label(recipe["sparsity"])
        if sparsity == "dense":  # what follows a pruning stage keeps its masks
            for part in ("masks", "start"):
                before = self.planner.stages[parents[part]].tags if part in parents else {}
                if before.get("sparsity", "dense") != "dense":
                    return {key: before[key] for key in ("method", "sparsity")}
        own = self.prunes(role) or not is_training(recipe)
        return {"method": self.cell.method if own else "dense", "sparsity": sparsity}

    def make(
        self,
        stage_id: str,
        role: str,
        recipe: dict[str, Any],
        seed: int,
        parents: dict[str, str],
        hashed: dict[str, Any],
        config: dict[str, Any],
        provenance: dict[str, Any],
    ) -> Stage:
        planner = self.planner
        rows = planner.inputs.data_of(recipe["task"]).rows
        if is_training(recipe):
            check_fits(f"stage '{role}' on {recipe['task']['name']}", recipe, rows, config)
        check_benchmark(role, recipe, config)
        gpus = gpus_of(planner.request.cluster) if uses_gpu(recipe) else 0.0
        workers = workers_of(planner.request.cluster, gpus) if divides(recipe) else 1
        tags = {
            "task": recipe["task"]["name"],
            "model": recipe["model"]["name"],
            **self.pruned(role, recipe, parents),
            "role": role,
        }
        return Stage(
            id=stage_id,
            name=stage_name(tags, seed),
            recipe=recipe,
            seed=seed,
            parents=parents,
            identity=hashed,
            tags=tags,
            stand_in=planner.stand_in,
            resources={"cpu": float(planner.request.cluster.cpus_per_stage), "gpu": gpus},
            workers=workers,
            cost=estimate(
                recipe,
                rows,
                config,
                "teacher" in parents and "logits" not in parents,
                gpu=gpus > 0,
                workers=workers,
            ),
            notes={"schedule": self.notes, **provenance},
        )


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
