"""The stage that asks a teacher once for all its students, as a plan has it.

No id but its own tells of it: what a student looks up is what its teacher would say, to rounding.
"""

from __future__ import annotations

from typing import Any

from ..identity import digest, identity
from ..schema import Stage
from .cost import estimate_logits
from .inputs import Inputs


def can_be_known(task: dict[str, Any]) -> bool:
    """Whether a row is the same each time: in masked-language modelling it is masked anew."""
    return "mask_probability" not in task


def logits_stage(student: dict[str, Any], teacher: Stage, inputs: Inputs) -> Stage:
    """What a teacher says of the rows of a student's recipe; all who need the same share it."""
    training = student["training"]
    recipe = {
        "kind": "teacher_logits",
        "task": student["task"],
        "model": teacher.recipe["model"],
        "logits": {key: training[key] for key in ("precision", "max_train_rows")},
    }
    parents, tags = {"teacher": teacher.id}, {**teacher.tags, "role": "teacher_logits"}
    data = inputs.data_of(recipe["task"])
    config = inputs.weights_of(recipe["model"])["config"]
    hashed = identity(recipe, teacher.seed, parents, data.fingerprint, None)
    gpu = teacher.resources["gpu"] > 0
    return Stage(
        id=digest(hashed),
        name=f"teacher_logits {tags['task']} {tags['model']} seed {teacher.seed}",
        recipe=recipe,
        seed=teacher.seed,
        parents=parents,
        identity=hashed,
        tags=tags,
        stand_in=teacher.stand_in,
        resources=teacher.resources,
        workers=teacher.workers,
        cost=estimate_logits(recipe, data.rows, config, gpu, teacher.workers),
    )
