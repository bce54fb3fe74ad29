"""What people call stages: by which method, and how far their model is pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..catalogue.cell import Cell
from ..schema import is_training
from .link import AnyLink


def tags_of(
    cell: Cell,
    role: str,
    link: AnyLink,
    recipe: dict[str, Any],
    pruned_before: Sequence[Mapping[str, str]],
) -> dict[str, str]:
    """A stage's tags.

    `pruned_before`: those of the stages whose masks it keeps, unless it prunes; the last counts.
    """
    own = link.method == "cell" or not is_training(recipe)
    method = cell.method if own else "dense"
    sparsity = sparsity_label(recipe["sparsity"])
    if is_training(recipe) and recipe["training"]["lock_pattern"]:  # pruned, perhaps elsewhere
        target = {"pattern": cell.pattern, "level": cell.sparsity}
        method, sparsity = cell.method, sparsity_label(target)
    if sparsity == "dense" and pruned_before:
        method, sparsity = pruned_before[-1]["method"], pruned_before[-1]["sparsity"]
    return {
        "task": recipe["task"]["name"],
        "model": recipe["model"]["name"],
        "method": method,
        "sparsity": sparsity,
        "role": role,
    }


def stage_name(tags: Mapping[str, str], seed: int) -> str:
    """What a person calls the stage; "dense" is said once, though role, method and sparsity are."""
    words = [tags[key] for key in ("role", "task", "model", "method", "sparsity")]
    return f"{' '.join(dict.fromkeys(words))} seed {seed}"


def sparsity_label(sparsity: Mapping[str, Any]) -> str:
    """A pattern, and the level in per cent where it is not the pattern's own: block4 90."""
    if sparsity["pattern"] in ("dense", "2of4"):
        return str(sparsity["pattern"])
    return f"{sparsity['pattern']} {sparsity['level'] * 100:g}"
