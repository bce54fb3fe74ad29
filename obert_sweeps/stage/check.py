"""Whether stages can be made of their leaves, and their methods prune as asked, before any starts.

`plan` and `run` ask this in a process of its own, since the driver imports no torch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..make import make
from ..method.base import Asked, Method
from ..model.base import Encoder
from ..schema import RequestError, StageError
from ..sparsity.pattern import pattern_named
from ..task.base import Task

KINDS: dict[str, type] = {"task": Task, "model": Encoder, "method": Method}


def faults(
    leaves: Sequence[Mapping[str, Any]],
    prunings: Sequence[Mapping[str, Any]],
    allow_targets: Sequence[str],
) -> Iterator[str]:
    """What is wrong with leaves by themselves; if nothing is, with what prunes.

    A leaf has its `group`: task, model or method; its keys are under `leaf`. A pruning has `where`,
    the `method` leaf, the `pattern` by name, and `steps`: optimiser step -> level.
    """
    found = False
    for said in leaves:
        try:
            make(said["leaf"], allow_targets, KINDS[said["group"]])
        except (RequestError, StageError, TypeError, ValueError) as error:
            found = True
            yield str(error)
    for pruning in [] if found else prunings:
        steps = {int(step): level for step, level in pruning["steps"].items()}
        try:
            method = make(pruning["method"], allow_targets, Method)
            method.check(Asked(pattern_named(pruning["pattern"]), steps))
        except (RequestError, StageError) as error:
            yield f"{pruning['where']}: {error}"


def main() -> None:
    """The arguments of `faults` on stdin, as JSON; what it finds on stdout, as a JSON list."""
    json.dump(list(faults(**json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main()
