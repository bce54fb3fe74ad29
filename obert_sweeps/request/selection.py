"""Which cells a request asks for."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import ListConfig

from ..catalogue.cell import Cell
from ..catalogue.tables import document_cells
from ..schema import RequestError
from .overrides import worded
from .read import CHAIN_GROUPS, LEAF_GROUPS, Loaded

# Keys of the request's root that change what a cell comes to.
_SETTINGS = ("preset", "budget", "base_seed", "vary", "comparison", "data_root")
# Patterns that an id tells: by 2of4, by no variant, or by a level that names no pattern.
_PATTERNS_IN_IDS = ("dense", "2of4", "unstructured")


def select(loaded: Loaded) -> list[Cell]:
    """The cells asked for, in the document's order.

    Raises RequestError when nothing matches, or when a schedule is chosen or a sparsity changed for
    the document's cells.
    """
    tables = _tables(loaded.request.table)
    if 0 in tables:
        if tables != [0]:
            raise RequestError("table=0, one cell of your own, cannot be combined. Use table=0.")
        return [own_cell(loaded)]
    for group in CHAIN_GROUPS:
        if group in loaded.choices:
            raise RequestError(
                f"{group}={loaded.choices[group]}: in tables 1 to 5 the {group} is part of the "
                f"cell. For a cell of your own use table=0 {group}={loaded.choices[group]} …"
            )
    _refuse_sparsity(loaded)
    chosen = [c for c in document_cells() if c.table in tables and _uses(c, loaded.choices)]
    globs = _globs(loaded.request.cells)
    chosen = [c for c in chosen if globs is None or any(fnmatchcase(c.id, g) for g in globs)]
    if not chosen:
        raise RequestError(
            "no cell of the document matches the request"
            + (f" (cells={', '.join(globs)})" if globs else "")
            + ". See its cells with: obert-sweeps ls. For a cell of your own use table=0"
        )
    return chosen


def _refuse_sparsity(loaded: Loaded) -> None:
    for override in loaded.leaf_overrides.get("sparsity", []):
        raise RequestError(
            f"{override.input_line}: in tables 1 to 5 pattern and level are part of the cell. For "
            f"a cell of your own use table=0 … sparsity={loaded.choices['sparsity']} "
            f"{override.input_line}"
        )


def own_cell(loaded: Loaded) -> Cell:
    """`table=0`: one cell from the chosen groups."""
    missing = [g for g in ("task", "model", "method") if g not in loaded.choices]
    if missing:
        raise RequestError(
            f"table=0 makes one cell of your own and needs {', '.join(missing)} too. For instance: "
            "obert-sweeps run table=0 task=sst2 model=bert_base method=obert "
            "sparsity=unstructured schedule=oneshot"
        )
    method = loaded.choices["method"]
    pattern = loaded.choices.get("sparsity", "dense" if method == "dense" else "unstructured")
    schedule = loaded.choices.get("schedule", "dense" if method == "dense" else "")
    if not schedule:
        known = ", ".join(sorted(loaded.leaves["schedule"]))
        raise RequestError(
            f"table=0 method={method} needs a schedule. Use schedule= one of {known}."
        )
    level = float(loaded.leaves["sparsity"].get(pattern, {}).get("level", 0.0))
    for override in loaded.leaf_overrides.get("sparsity", []):
        if override.key_or_group != "sparsity.level":
            raise RequestError(
                f"{override.input_line}: only the level can be changed. For another pattern use "
                f"sparsity= one of {', '.join(sorted(loaded.leaves['sparsity']))}."
            )
        level = level_of(override.value())
    variant = None
    if pattern != "dense":
        variant = pattern if pattern == "2of4" else f"{level * 100:g}"
    task, model = loaded.choices["task"], loaded.choices["model"]
    parts = [f"t0/{task}/{model}/{method}", *([variant] if variant else [])]
    return Cell(
        id="/".join(parts),
        table=0,
        task=task,
        model=model,
        method=method,
        sparsity=level,
        pattern=pattern,
        variant=variant,
        published={},
        note="",
        schedule=schedule,
        distill=loaded.choices.get("distill", "none"),
        baseline=None,
        settings=tuple(sorted(o.input_line or "" for o in loaded.overrides if _is_setting(o))),
    )


def level_of(value: Any) -> float:
    """A `sparsity.level`. RequestError unless it is a number between 0 and 1."""
    if isinstance(value, list):
        raise RequestError(
            f"sparsity.level={value}: one command runs one level. Use one, for instance"
            " sparsity.level=0.9, and a command for each."
        )
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value < 1:
        raise RequestError(
            f"sparsity.level={value} is impossible: it is the share of prunable weights that go,"
            " a number between 0 and 1. For instance: sparsity.level=0.9."
        )
    return float(value)


def said_of_all(loaded: Loaded) -> tuple[str, ...]:
    """What a request says of all its cells, its preset first: preset=demo budget.max_epochs=1."""
    said = sorted(o.input_line or "" for o in loaded.overrides if _of_all(o))
    preset = loaded.request.preset.name
    return (f"preset={preset}", *(line for line in said if line != f"preset={preset}"))


def _of_all(override: Override) -> bool:
    return override.key_or_group.partition(".")[0] in _SETTINGS


def _is_setting(override: Override) -> bool:
    """Whether it makes another cell of one's own that its id does not tell from this one."""
    key = override.key_or_group
    group = key.partition(".")[0]
    if key == "sparsity":
        return override.value() not in _PATTERNS_IN_IDS
    chosen = key in CHAIN_GROUPS or (group in LEAF_GROUPS and group != key)
    return key != "sparsity.level" and (chosen or _of_all(override))


def _tables(table: Any) -> list[int]:
    if table == "all":
        return [1, 2, 3, 4, 5]
    given = list(table) if isinstance(table, ListConfig) else [table]
    if not given or any(type(t) is not int or t not in range(6) for t in given):
        raise RequestError(
            f"table={worded(table)} is unknown. Use table=5, table=[1,4], table=all or table=0."
        )
    return [int(t) for t in given]


def _globs(cells: Any) -> list[str] | None:
    if cells is None:
        return None
    given = list(cells) if isinstance(cells, ListConfig) else [cells]
    if not given or any(not isinstance(c, str) for c in given):
        raise RequestError(
            f"cells={worded(cells)}: a pattern of cell ids is a text. Use cells='t5/sst2/*' or "
            "cells=['*/dense','t1/*']; a table's cells are table=5."
        )
    return given


def _uses(cell: Cell, choices: dict[str, str]) -> bool:
    has = {"task": cell.task, "model": cell.model, "method": cell.method, "sparsity": cell.pattern}
    return all(has[group] == leaf for group, leaf in choices.items())
