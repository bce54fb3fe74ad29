"""The folders that come with the program beside its code: conf/, launchers/."""

from __future__ import annotations

from pathlib import Path


def shipped(folder: str) -> Path:
    """Inside an installed package, else beside it."""
    package = Path(__file__).resolve().parent
    inside = package / folder
    return inside if inside.is_dir() else package.parent / folder


def conf_dir() -> Path:
    return shipped("conf")


def leaf_names(group: str) -> list[str]:
    """The leaves of a group, one's own among them: the YAML files in its folder."""
    return sorted(file.stem for file in (conf_dir() / group).glob("*.yaml"))
