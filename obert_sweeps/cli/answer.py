"""How a verb answers: one JSON document, or text, on stdout and nothing else there."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from rich.console import Console

from ..amounts import counted
from ..request.overrides import spelled
from ..request.read import Loaded

Document = TypeVar("Document")


def print_json(document: Any) -> None:
    """One document; a number that JSON lacks (nan, inf) becomes null."""
    print(json.dumps(_finite(document), indent=2, allow_nan=False))


def answer(loaded: Loaded, document: Document, show: Callable[[Document], object]) -> None:
    """A verb's answer as the request wants it: the document, or what `show` prints of it."""
    if loaded.request.format == "json":
        print_json(document)
    else:
        show(document)


def typed(key: str, value: str) -> str:
    """An override as it is typed: in quotes where Hydra wants them, and then the shell."""
    return shlex.quote(f"{key}={spelled(value)}")


def by_reason(blocked: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Reason -> the cells it blocks: many share one."""
    found: dict[str, list[str]] = {}
    for reason, cell in blocked:
        found.setdefault(reason, []).append(cell)
    return found


def tell_blocked(blocked: Iterable[tuple[str, str]]) -> None:
    """Cells that cannot run, as (reason, cell), beside an answer that does not list them."""
    for reason, cells in by_reason(blocked).items():
        notice(f"blocked, {counted(len(cells), 'cell')}: {reason}")


def console() -> Console:
    """For the answer. Wide where stdout is no terminal, so that nothing is cut in a file."""
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def notice(text: str) -> None:
    """A word about what is going on, beside the answer."""
    print(text, file=sys.stderr, flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
