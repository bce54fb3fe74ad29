"""One-shot curves: scores over levels pruned at once, of all such stages that a store holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any, NamedTuple

from ...catalogue.cell import primary_metric
from ...identity import hashed_part
from .dotted import dotted
from .versions import versions
from .views import StagesView, StoreView

Curve = tuple[str, str, str, str]  # task, model, pattern, stage it starts from
Points = dict[float, float]  # level -> score

# Without a training step nothing else of it counts.
_OF_TRAINING = ("max_train_rows", "max_eval_rows", "prune_also", "precision")


class Setting(NamedTuple):
    """A line of a curve: a method, and in what it differs from the method's other lines."""

    method: str
    said: str = ""  # as the report's column "with" says it: method.damp=0.1


def one_shot_curves(store: StagesView) -> dict[Curve, dict[Setting, Points]]:
    """For stages that prune and do not train; level 0 is the dense model.

    A curve's stages start from the same model; a line's differ in level and seed alone, not in
    the version of what computed them, and its scores are means over seeds.
    """
    found: dict[Curve, list[dict[str, Any]]] = {}
    for stage_id in store.ids():
        stage = store.stage(stage_id)
        if stage is None or not _prunes_at_once(stage["recipe"]):
            continue
        recipe, start = stage["recipe"], stage["parents"].get("start")
        task = recipe["task"]["name"]
        score = _score(stage_id, recipe["task"], store)
        if start is None or score is None:
            continue
        curve = (task, recipe["model"]["name"], recipe["sparsity"]["pattern"], start)
        found.setdefault(curve, []).append({**stage, "score": score})
    return {
        curve: {
            line: _dense_point(curve, stages[0], store) | points
            for line, points in _lines(stages).items()
        }
        for curve, stages in found.items()
    }


def _lines(stages: Iterable[Mapping[str, Any]]) -> dict[Setting, Points]:
    by_method: dict[str, list[Mapping[str, Any]]] = {}
    for stage in stages:
        by_method.setdefault(stage["tags"]["method"], []).append(stage)
    scores: dict[Setting, dict[float, dict[int, float]]] = {}  # line -> level -> seed -> score
    for method, members in by_method.items():
        settings = [_settings(stage["recipe"]) | versions(stage) for stage in members]
        for stage, differing in zip(members, _differing(settings), strict=True):
            levels = scores.setdefault(Setting(method, differing), {})
            by_seed = levels.setdefault(float(stage["recipe"]["sparsity"]["level"]), {})
            by_seed[stage["seed"]] = stage["score"]
    return {
        line: {level: fmean(by_seed.values()) for level, by_seed in levels.items()}
        for line, levels in scores.items()
    }


def _settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What of a recipe makes a one-shot result, but for the level, by dotted keys."""
    parts = hashed_part(dict(recipe))
    training = {key: parts["training"].get(key) for key in _OF_TRAINING}
    return dotted({"task": parts["task"], "method": parts.get("method"), "training": training})


def _differing(settings: list[dict[str, Any]]) -> list[str]:
    """Of each, the keys that not all have alike, in words."""
    keys = sorted({key for one in settings for key in one})
    varied = [k for k in keys if any(one.get(k) != settings[0].get(k) for one in settings)]
    return [" ".join(f"{k}={one.get(k)}" for k in varied) for one in settings]


def _prunes_at_once(recipe: Mapping[str, Any]) -> bool:
    training = recipe.get("training") or {}
    level = (recipe.get("sparsity") or {}).get("level") or 0.0
    return level > 0 and training.get("epochs") == 0 and training.get("pruning") is not None


def _score(stage_id: str, task: Mapping[str, Any], store: StoreView) -> float | None:
    """`task`: its leaf, by which a task of one's own says what its scores are."""
    metric = primary_metric(task["name"], task)
    score = ((store.result(stage_id) or {}).get("metrics") or {}).get(metric)
    return None if score is None else float(score)


def _dense_point(curve: Curve, pruned: Mapping[str, Any], store: StoreView) -> Points:
    score = _score(curve[3], pruned["recipe"]["task"], store)
    return {} if score is None else {0.0: score}
