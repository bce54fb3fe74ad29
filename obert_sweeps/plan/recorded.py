"""What a store's stages were made from: for a look at results whose rows or checkpoint are gone.

A stage id is a hash of digests of its inputs. Where a folder is not there, as of a store that was
copied to another machine, they are those that the store's own stages have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ..identity import ORIGINS
from ..store import Store


class Recorded:
    """The stage.json files of a store, read when they are first asked for; of None: nothing."""

    def __init__(self, store: Store | None) -> None:
        self.store = store

    def stage(self, stage_id: str) -> dict[str, Any] | None:
        return self._stages.get(stage_id)

    def fingerprint(self, part: str, leaf: Mapping[str, Any]) -> Any | None:
        """Of a task's rows in a folder (`task`), or a model's checkpoint folder (`model`).

        None where no stage has one. Where several folders were read under one name it is that of
        the folder which is asked for, and None where the store knows that one in two ways.
        """
        of_part = {"task": ("data", "folder"), "model": ("weights", "path")}
        digests, where = of_part[part]
        found: dict[str, set[str]] = {}  # folder -> fingerprints, as JSON
        for stage in self._stages.values():
            recipe = (stage.get("recipe") or {}).get(part) or {}
            known = (stage.get("identity") or {}).get(digests)
            alike = recipe.get(where) and _hashed(part, recipe) == _hashed(part, leaf)
            if alike and known is not None:
                found.setdefault(recipe[where], set()).add(json.dumps(known, sort_keys=True))
        here = found.get(str(leaf.get(where)), set().union(*found.values()))
        return json.loads(next(iter(here))) if len(here) == 1 else None

    @cached_property
    def _stages(self) -> dict[str, dict[str, Any]]:
        if self.store is None:
            return {}
        found = {stage_id: self.store.stage(stage_id) for stage_id in self.store.ids()}
        return {stage_id: stage for stage_id, stage in found.items() if stage is not None}


def _hashed(part: str, leaf: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in leaf.items() if key not in ORIGINS[part]}
