"""What makes a stage another stage: every key of a recipe, but where its inputs lie."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

import pytest

from obert_sweeps.identity import digest, identity
from obert_sweeps.schema import (
    Distillation,
    LearningRatePiece,
    PruningTimes,
    Quantization,
    Training,
)

TRAINING = Training(
    epochs=3.0,
    batch_size=32,
    learning_rate=[LearningRatePiece(3.0, 1e-4, 0.0)],
    pruning=PruningTimes(0.5, 2.0, 0.5, 0.3),
    distill=Distillation(1.0, 2.0),
    quantize=Quantization(1.0),
)
SQUAD = "obert_sweeps.task.squad.Squad"
RECIPE: dict[str, Any] = {
    "kind": "train",
    "task": {"_target_": SQUAD, "name": "squad", "max_length": 384, "source": "hub", "hub": "a/b"},
    "model": {"_target_": "Bert", "name": "bert_base", "hub": "c/d", "path": None},
    "method": {"_target_": "Obert", "damp": 1e-7, "update": "simultaneous"},
    "sparsity": {"pattern": "unstructured", "level": 0.9},
    "training": asdict(TRAINING),
}
PARENTS = {"start": "aaaa", "teacher": "bbbb"}
# These say where rows and weights are; which they are is told by `data` and `weights`.
PLACES = [("task", "source"), ("task", "hub"), ("model", "hub"), ("model", "path")]


def id_of(recipe: dict[str, Any] = RECIPE, **changes: Any) -> str:
    said = {"seed": 42, "parents": PARENTS, "data": {"train": "0a"}, "weights": {"bert": "1b"}}
    return digest(identity(recipe, **{**said, **changes}))


def keys(node: dict[str, Any]) -> list[tuple[str, ...]]:
    """The paths to all that is no dictionary."""
    return [
        (name, *rest)
        for name, value in node.items()
        for rest in (keys(value) if isinstance(value, dict) else [()])
    ]


def changed(path: tuple[str, ...], value: Any = "another") -> dict[str, Any]:
    recipe = copy.deepcopy(RECIPE)
    node = recipe
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    return recipe


@pytest.mark.parametrize("path", [p for p in keys(RECIPE) if p != ("kind",)], ids="-".join)
def test_each_key_of_a_recipe_counts_but_those_of_places(path: tuple[str, ...]) -> None:
    assert (id_of(changed(path)) == id_of()) == (path in PLACES)


def test_seed_parents_their_roles_data_and_weights_count() -> None:
    swapped = {"start": "bbbb", "teacher": "aaaa"}
    others = [
        id_of(seed=43),
        id_of(parents={"start": "aaaa"}),
        id_of(parents=swapped),
        id_of(data={"train": "0b"}),
        id_of(weights={"bert": "1c"}),
        id_of(weights=None),
    ]
    assert len({id_of(), *others}) == 7
    assert id_of(parents=dict(reversed(PARENTS.items()))) == id_of()  # in whatever order


@pytest.mark.parametrize(
    ("part", "key", "before"),
    [
        (("training",), "prune_also", []),
        (("training",), "rewind", None),
        (("training",), "quantize", None),
        (("training",), "group_by_length", 0),
        (("training", "pruning"), "until", None),
        (("training", "pruning"), "every_steps", None),
        (("method",), "update", "simultaneous"),
    ],
)
def test_a_later_key_that_says_nothing_new_leaves_earlier_results_valid(
    part: tuple[str, ...], key: str, before: Any
) -> None:
    earlier = changed((*part, key), before)
    node = earlier
    for name in part:
        node = node[name]
    said = id_of(earlier)
    del node[key]
    assert id_of(earlier) == said


def test_the_loss_of_squad_was_mended_and_its_results_are_others() -> None:
    other = changed(("task", "_target_"), "obert_sweeps.task.glue.Glue")
    said = {"seed": 1, "parents": {}, "data": None, "weights": None}
    assert identity(RECIPE, **said)["task_version"] == 2
    assert "task_version" not in identity(other, **said)
