"""Whether a stage can be trained as its recipe says, before anything is started. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ..schema import PruningTimes, RequestError, Training
from ..sparsity.schedule import pruning_steps, step_of
from .learning_rate import check_pieces

WORDS = {"keep": ("last", "best"), "optimizer": ("adamw", "adamax"), "precision": ("fp32", "bf16")}
AT_LEAST = {
    "epochs": 0,
    "batch_size": 1,
    "weight_decay": 0,
    "max_grad_norm": 0,  # 0: gradients are not cut
    "patience": 1,
    "keep_layers": 1,
    "distill.hardness": 0,
    "quantize.observe_until": 0,
    "group_by_length": 0,
    "max_train_rows": 1,
    "max_eval_rows": 1,
}
AT_MOST = {"distill.hardness": 1}
ABOVE = {"evaluate_every": 0, "distill.temperature": 0}


def check_values(training: Mapping[str, Any], where: str, key: str) -> None:
    """Each value of a recipe's training by itself, and the pieces of its learning rate.

    `where` says which stage it is, `key` where the request says its values. Raises RequestError.
    """
    for name, value in _flat(training):
        if value is None:
            continue
        if needed := _needed(name, value):
            instance = WORDS[name][0] if name in WORDS else max(1, AT_LEAST.get(name, 1))
            raise RequestError(
                f"{where} has {name}={value}, and it must be {needed}. For instance:"
                f" {key}.{name}={instance}"
            )
    try:
        check_pieces(Training.from_dict(training).learning_rate)
        if training["epochs"] and not training["learning_rate"]:
            raise RequestError("the learning rate has no pieces. Give at least one, with `until`.")
    except RequestError as error:
        example = (
            f"{key}.learning_rate=[{{until: {training['epochs']:g}, initial: 5e-5, final: 0}}]"
        )
        raise RequestError(f"{where}: {error} For instance: '{example}'") from error


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif not isinstance(value, list):
            yield prefix + name, value


def _needed(name: str, value: Any) -> str | None:
    """What a value must be, if it is not."""
    if name in WORDS:
        return None if value in WORDS[name] else " or ".join(WORDS[name])
    if isinstance(value, str):
        return "a number" if name in AT_LEAST or name in ABOVE else None
    if not math.isfinite(value):
        return "finite"
    if value < AT_LEAST.get(name, -math.inf) or value > AT_MOST.get(name, math.inf):
        most = f" and at most {AT_MOST[name]}" if name in AT_MOST else ""
        return f"at least {AT_LEAST[name]}{most}"
    return f"above {ABOVE[name]}" if value <= ABOVE.get(name, -math.inf) else None


def check_fits(
    where: str, recipe: dict[str, Any], rows: Mapping[str, int], config: Mapping[str, Any]
) -> dict[int, float]:
    """The pruning steps, which must fit into the training: optimiser step -> level; {} for none.

    The model must have the layers to keep, and take rows as long as the task's; a stage that prunes
    must be in float32. `rows` by split; `config`: the model's dimensions. Raises RequestError.
    """
    training, sparsity = Training.from_dict(recipe["training"]), recipe["sparsity"]
    layers = config.get("num_hidden_layers")
    if layers is not None and training.keep_layers and training.keep_layers > layers:
        raise RequestError(
            f"{where} has keep_layers={training.keep_layers}, and the model has {layers} layers."
            " Give a number from 1 to that, or null to keep them all."
        )
    longest, positions = recipe["task"].get("max_length"), config.get("max_position_embeddings")
    if longest is not None and positions is not None and longest > positions:
        raise RequestError(
            f"{where} has rows of up to {longest} tokens and the model takes {positions}. Set"
            f" task.max_length or preset.task.{recipe['task']['name']}.max_length to at most that."
        )
    if training.rewind is not None and not _prunes_once_first(training.pruning):
        raise RequestError(
            f"{where} rewinds to {training.rewind}, which comes after its only pruning step, at"
            " the beginning. Set pruning.start and pruning.end to 0 and its intervals to null, or"
            " rewind to null."
        )
    if training.pruning is None or sparsity["pattern"] == "dense":
        return {}
    if training.quantize is not None:
        raise RequestError(
            f"{where} prunes and trains in INT8 at once, and would do neither right: methods"
            " measure layers in float32, or put a computation of their own in the place of INT8's."
            " Set its quantize to null, and quantise in a stage of its own, as"
            " schedule=compound_large does."
        )
    train_rows, most = rows.get("train", 0), training.max_train_rows
    train_rows = train_rows if most is None else min(train_rows, most)
    per_epoch = max(1, math.ceil(train_rows / training.batch_size))
    total = step_of(training.epochs, per_epoch)
    try:
        return pruning_steps(training.pruning, sparsity["level"], per_epoch, total)
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from error


def _prunes_once_first(pruning: PruningTimes | None) -> bool:
    if pruning is None:
        return False
    intervals = (pruning.every, pruning.every_steps, pruning.until)
    return pruning.start == pruning.end == 0 and intervals == (None, None, None)
