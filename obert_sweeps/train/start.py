"""What a stage starts from: tokenizer, model, masks; and its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..model.base import Encoder, quiet
from ..model.quantize import quantize
from ..schema import StageError, Training
from ..sparsity.mask import Masks
from ..task.base import Task

MASKS = "masks.safetensors"


@dataclass
class Start:
    """What training begins with (see `start`). `layers`: the prunable ones, by name."""

    tokenizer: Any
    model: Any
    layers: dict[str, nn.Linear]
    masks: Masks
    rewind: dict[str, Tensor] | None = None  # the encoder's weights that come back once pruned


def start(task: Task, encoder: Encoder, training: Training, parents: Mapping[str, Path]) -> Start:
    """Build what training begins with; new heads and random weights come from torch's generator.

    `parents` holds the model folder of each role. Weights, tokenizer and masks are those of the
    role `start`, else of the model's own checkpoint, else made from nothing (the tokenizer by the
    task). Masks of the role `masks` go before those of `start`. Pruned weights are zero already.
    With `training.quantize` the model is quantised, its ranges still to be observed.
    With `training.rewind` there are also the encoder's weights of the role `rewind`, or of the
    model's own checkpoint.

    StageError if the parts do not fit each other.
    """
    folder = str(parents["start"]) if "start" in parents else None
    tokenizer = encoder.tokenizer(folder)
    if tokenizer is None:
        tokenizer = task.make_tokenizer()
    if tokenizer is None:
        raise StageError(
            f"model {encoder.name} is made from nothing and task {task.name} makes no tokenizer."
            " Start from a stage of masked-language modelling, or give a checkpoint:"
            " model.path=DIR"
        )
    rewind = None
    if training.rewind is not None:
        # Before anything else is drawn: what that source lacks (a pooler) must be drawn as it was
        # for the stage that started from it with this seed.
        there = _build(task, encoder, training, len(tokenizer), parents.get("rewind"))
        rewind = there.base_model.state_dict()
    model = _build(task, encoder, training, len(tokenizer), parents.get("start"))
    if task.max_length > model.config.max_position_embeddings:
        raise StageError(
            f"task {task.name} has rows of up to {task.max_length} tokens and the model takes"
            f" {model.config.max_position_embeddings}. Set task.max_length to at most that."
        )
    if training.quantize is not None:
        quantize(model)
    layers = encoder.prunable(model, training.prune_also)
    masks = _masks(layers, training, parents)
    masks.apply()
    return Start(tokenizer, model, layers, masks, rewind)


def load_teacher(
    task: Task, encoder: Encoder, tokens: int, folder: Path, vocabulary: int | None = None
) -> Any:
    """A teacher from its model folder, fixed and in eval mode.

    StageError if it does not know `tokens` tokens or, where that is given, has another `vocabulary`
    than its student.
    """
    teacher = encoder.build(task.head.name, task.num_labels, tokens, str(folder), new_head=False)
    if vocabulary is not None and teacher.config.vocab_size != vocabulary:
        raise StageError(
            f"the teacher knows {teacher.config.vocab_size} tokens and the student"
            f" {vocabulary}: they need one tokenizer. Choose a teacher that starts"
            " from the same checkpoint."
        )
    return teacher.eval().requires_grad_(False)


def _build(
    task: Task, encoder: Encoder, training: Training, tokens: int, folder: Path | None
) -> Any:
    return encoder.build(
        task.head.name,
        task.num_labels,
        tokens,
        None if folder is None else str(folder),
        training.keep_layers,
        new_head=True if training.reset_head and folder else None,
        pooler=any("pooler" in part for part in training.prune_also),
    )


def save(folder: Path, model: Any, tokenizer: Any, masks: Masks) -> None:
    """Write model, tokenizer and, unless all is kept, masks: what a stage starts from."""
    with quiet():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if not masks.is_dense:
        keep = {name: mask.cpu().contiguous() for name, mask in masks.state_dict().items()}
        save_file(keep, folder / MASKS, metadata={"kept": "1"})


def _masks(layers: dict[str, nn.Linear], training: Training, parents: Mapping[str, Path]) -> Masks:
    if "masks" in parents:
        found = load_masks(parents["masks"], layers)
        if found is None:
            raise StageError(
                f"{parents['masks']} has no {MASKS}: the stage whose masks are wanted pruned"
                " nothing. Name a stage that prunes."
            )
        return Masks(layers, found)
    if training.lock_pattern:
        return Masks.from_zeros(layers)
    return Masks(layers, load_masks(parents["start"], layers) if "start" in parents else None)


def load_masks(folder: Path, layers: dict[str, nn.Linear]) -> dict[str, Tensor] | None:
    """A model folder's masks for `layers` (those of layers dropped since are left out), or None."""
    file = folder / MASKS
    if not file.is_file():
        return None
    try:
        found = load_file(file)
    except (OSError, SafetensorError) as error:
        raise StageError(
            f"{file} cannot be read ({error}). Delete the folder of that stage and run again."
        ) from error
    return {name: mask for name, mask in found.items() if name in layers}
