"""What a plan knows of a method's code: its version, and a digest of its source.

Read from the source: the driver imports neither torch nor, before a run, anybody's package.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from typing import Any

from ..make import PACKAGE, check_allowed
from ..schema import RequestError, Stage

ROOT = f"{PACKAGE}.method.base"  # what all methods have in common is no method's code


@dataclass(frozen=True)
class Code:
    """`version` is hashed into a stage's identity, `digest` only tells that something changed."""

    version: int = 1
    digest: str | None = None  # None: there is no source to be read


@dataclass
class Codes:
    """Methods' code, each read once for a plan."""

    allow_targets: Sequence[str]
    known: dict[str, Code] = field(default_factory=dict)

    def of(self, target: str) -> Code:
        """The code of a class by its dotted name.

        RequestError if it is of a package that is not allowed, whose version would not be read and
        other stages planned than where it is, and if its version is no number.
        """
        if target not in self.known:
            self.known[target] = self._read(target)
        return self.known[target]

    def _read(self, target: str) -> Code:
        check_allowed(target, self.allow_targets)
        module, _, name = target.rpartition(".")
        version: int | None = None
        texts: dict[str, str] = {}
        for where, tree, node in self._lineage(module, name):
            version = _version(node, where) if version is None else version
            self._gather(where, tree, texts)
        if not texts:
            return Code()
        digest = hashlib.sha256("\n".join(texts.values()).encode()).hexdigest()[:16]
        return Code(version or 1, digest)

    def _gather(self, module: str, tree: ast.Module, texts: dict[str, str]) -> None:
        """A module's text, and those of what it imports from its own folder, such as an engine."""
        if module in texts:
            return
        imported = [name for node in ast.walk(tree) for name in _beside(node, module)]
        texts[module] = ast.unparse(_without_docstrings(tree))
        for name in imported:
            if (found := self._tree(name)) is not None:
                self._gather(name, found, texts)

    def _lineage(self, module: str, name: str) -> Iterator[tuple[str, ast.Module, ast.ClassDef]]:
        """A class and those it inherits from, with their modules; imported names are followed."""
        tree = self._tree(module)
        if tree is None:
            return
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                yield module, tree, node
                for base in node.bases:
                    if isinstance(base, ast.Name):
                        yield from self._lineage(module, base.id)
            elif isinstance(node, ast.ImportFrom):
                for given in node.names:
                    if (given.asname or given.name) == name:
                        yield from self._lineage(_imported(node, module), given.name)

    def _tree(self, module: str) -> ast.Module | None:
        if module == ROOT or module.partition(".")[0] not in (PACKAGE, *self.allow_targets):
            return None
        spec = spec_of(module)
        loader = spec.loader if spec else None
        text = loader.get_source(module) if isinstance(loader, InspectLoader) else None
        try:
            return None if text is None else ast.parse(text)
        except SyntaxError as error:
            raise RequestError(
                f"{module} is no Python: line {error.lineno}: {error.msg}. Mend it, or choose"
                " another method."
            ) from error


def changed_since(
    stages: Iterable[Stage], recorded: Callable[[str], Mapping[str, Any] | None]
) -> dict[str, list[str]]:
    """Method -> those of the stages that were computed by other code of it than there is now.

    `recorded`: a stage's stage.json. What has no source to be read is not told.
    """
    changed: dict[str, list[str]] = {}
    for stage in stages:
        now = stage.notes.get("method_code")
        then = ((recorded(stage.id) or {}).get("notes") or {}).get("method_code")
        if None not in (now, then) and then != now:
            changed.setdefault(stage.recipe["method"]["_target_"], []).append(stage.id)
    return changed


def spec_of(module: str) -> ModuleSpec | None:
    """Where a module is, found without importing it or the packages it is in."""
    spec: ModuleSpec | None = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        name, path = ".".join(parts[:count]), spec.submodule_search_locations if spec else None
        found = (finder.find_spec(name, path) for finder in sys.meta_path)
        spec = next((one for one in found if one is not None), None)
        if spec is None or (count < len(parts) and spec.submodule_search_locations is None):
            return None
    return spec


def _imported(node: ast.ImportFrom, module: str) -> str:
    """The module that `from … import` names."""
    if not node.level:
        return node.module or ""
    path, spec = module.split("."), spec_of(module)
    is_package = spec is not None and spec.submodule_search_locations is not None
    up = path[: len(path) - node.level + is_package]
    return ".".join([*up, node.module] if node.module else up)


def _beside(node: ast.AST, module: str) -> list[str]:
    """The modules that `from .name import …` and `from . import name` may mean; [] for others."""
    if not isinstance(node, ast.ImportFrom) or node.level != 1:
        return []
    where = _imported(node, module)
    return [where] if node.module else [f"{where}.{given.name}" for given in node.names]


def _version(node: ast.ClassDef, module: str) -> int | None:
    """What a class's own body says its version is; None if it does not."""
    for line in node.body:
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        if not any(isinstance(t, ast.Name) and t.id == "version" for t in targets):
            continue
        value = getattr(line, "value", None)
        said = value.value if isinstance(value, ast.Constant) else None
        if type(said) is not int or said < 1:
            raise RequestError(
                f"the version of {module}.{node.name} is read before anything is imported, so it"
                " must be written as a whole number from 1: version: ClassVar[int] = 2"
            )
        return said
    return None


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """Words for people do not change what is computed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree
