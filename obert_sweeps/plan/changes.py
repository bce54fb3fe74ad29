"""Which overrides of a request make a stage another than its leaves and its preset say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hydra.core.override_parser.types import Override

from ..schema import role_group

# Keys that say where rows and weights are, or that are for people: the recipe stays what it is.
_WHERE = {
    "task": (
        "source hub hub_config revision more_hub data folder corpus official_rows note"
    ).split(),
    "model": "hub revision path note".split(),
    "method": "source assumed".split(),
}
_OF_NO_STAGE = ("name", "seeds", "first")  # keys of a preset


def changes(
    overrides: Iterable[Override], choices: Mapping[str, str], uses: Mapping[str, str], role: str
) -> list[str]:
    """The overrides, as typed, that change the stage of this role.

    choices: group -> the leaf the user chose; uses: group -> the leaf that the stage has of it.
    """
    return [str(o.input_line) for o in overrides if _changes(o, choices, uses, role)]


def _changes(
    override: Override, choices: Mapping[str, str], uses: Mapping[str, str], role: str
) -> bool:
    group, *rest = override.key_or_group.split(".")
    if group in uses:
        return (
            bool(rest) and choices.get(group) == uses[group] and not _where(group, rest, override)
        )
    if group != "preset" or not rest or rest[0] in _OF_NO_STAGE:
        return False
    part, name, *keys = [*rest, "*"] if len(rest) == 1 else rest
    if part == "stages":
        return name in ("*", role_group(role))
    if part in uses:
        return name in ("*", uses[part]) and not _where(part, keys, override)
    return True


def _where(group: str, keys: list[str], override: Override) -> bool:
    """Generated rows are other rows, and no other place of the same."""
    return bool(keys) and keys[0] in _WHERE[group] and override.value() != "generated"
