"""What a stage descends from."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def with_ancestors(ids: Iterable[str], parents: Callable[[str], Iterable[str]]) -> list[str]:
    """These stages and all they need, parents first, each once; `parents` gives a stage's."""
    seen: dict[str, None] = {}
    pending = [(stage, False) for stage in ids]
    while pending:
        stage, expanded = pending.pop()
        if stage in seen:
            continue
        if expanded:
            seen[stage] = None
            continue
        pending.append((stage, True))
        pending += [(parent, False) for parent in parents(stage)]
    return list(seen)
