"""Results on disk: the truth about what is done. Knows files, not what a stage means.

    ROOT/stages/<id>/ stage.json lease.<n>.json metrics.jsonl log.txt checkpoint-<step>/ model/
                      failure.json result.json
    ROOT/cells/<cell id>.<hash>.seed<seed>.json    ROOT/report/    ROOT/replay/

A file or folder appears whole or not at all (see `place/`). `result.json` is written last and by
the lease's holder only; its presence is success.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..schema import RequestError, Stage
from .lease import Held, Lease, LeaseWatch
from .place import place_at
from .stage_folder import StageFolder, json_bytes, read_json

_LEAVE_A_MODEL = ("train", "export")  # kinds of stage
_FEW = 10  # ids that a message names
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class Store:
    """A store. `stale_after` and `beat_seconds` are for tests; all drivers must agree."""

    def __init__(
        self, root: str, stale_after: float | None = None, beat_seconds: float | None = None
    ) -> None:
        self.place = place_at(root)
        self._watch = LeaseWatch(stale_after or self.place.stale_seconds)
        self._beat_seconds = beat_seconds or self.place.beat_seconds

    @property
    def address(self) -> str:
        """What `store=` says to mean this store from any working folder."""
        return self.place.address

    @property
    def root(self) -> Path:
        """A folder on this machine for what must lie in one: of a folder store, its own."""
        return self.place.local

    def folder(self, stage_id: str) -> StageFolder:
        if not _ID.fullmatch(stage_id):
            raise RequestError(f"{stage_id!r} is not a stage id; `obert-sweeps status` lists them")
        place = self.place.sub(f"stages/{stage_id}")
        return StageFolder(place, self._watch, self._beat_seconds)

    def result(self, stage_id: str) -> dict[str, Any] | None:
        """What a finished stage came to; None if it is not finished."""
        return self.folder(stage_id).result()

    def lacks_model(self, stage: Stage) -> bool:
        """Is the model gone, freed or deleted by hand? A stage that diverged may have left none."""
        folder = self.folder(stage.id)
        if folder.freed("model"):
            return True
        result = folder.result() if stage.recipe.get("kind") in _LEAVE_A_MODEL else None
        return result is not None and result["status"] == "done" and not folder.has_folder("model")

    def stage(self, stage_id: str) -> dict[str, Any] | None:
        """A stage's stage.json; None if it was never begun."""
        stage = self.folder(stage_id).read_json("stage.json")
        return stage if isinstance(stage, dict) else None

    def ids(self) -> list[str]:
        """The stages that have a folder, finished or not."""
        return list(filter(_ID.fullmatch, self.place.names("stages")))

    def id_of(self, prefix: str) -> str:
        """The stage whose id starts so. Raises RequestError where none or several do."""
        found = [i for i in self.ids() if i.startswith(prefix)]
        if len(found) == 1:
            return found[0]
        if not found:
            ids = self.ids()
            known = f"It has {', '.join(i[:8] for i in ids)}. " if 0 < len(ids) <= _FEW else ""
            raise RequestError(
                f"no stage in {self.address} has an id that starts with '{prefix}'. {known}"
                f"See all {len(ids)} with: obert-sweeps status format=json store={self.address}"
            )
        raise RequestError(
            f"'{prefix}' fits {len(found)} stages: {', '.join(found[:5])} … Give more of it."
        )

    def failure(self, stage_id: str) -> dict[str, Any] | None:
        """Why a stage failed when it was last tried; None if it did not."""
        failure = self.folder(stage_id).read_json("failure.json")
        return failure if isinstance(failure, dict) else None

    def write_cell(self, record: dict[str, Any]) -> None:
        """`record` needs `id` and `seed`; it is told by them, its `settings` and its last stage.

        That stage tells requests apart, such as two presets'. A second writing replaces the first.
        """
        name = re.sub(r"[^A-Za-z0-9_-]+", ".", str(record["id"]))
        made = [record.get("settings", []), record.get("stages", [])[-1:]]
        name += "." + hashlib.sha256(json_bytes(made)).hexdigest()[:8]
        self.place.write(f"cells/{name}.seed{int(record['seed'])}.json", json_bytes(record))

    def cells(self) -> list[dict[str, Any]]:
        names = [name for name in self.place.names("cells") if name.endswith(".json")]
        found = (read_json(self.place, f"cells/{name}") for name in names)
        return [record for record in found if isinstance(record, dict)]

    def lease(self, name: str, owner: str) -> Lease:
        """To hold something of the store that is no stage: a context manager, which raises Held."""
        return Lease(self.place.sub(name), owner, self._watch, self._beat_seconds)

    @contextmanager
    def sole_driver(self, owner: str) -> Iterator[None]:
        """For a driver to work in: alone, where the place cannot keep stages apart for certain.

        Raises RequestError where another driver is at work there.
        """
        with ExitStack() as stack:
            if not self.place.exclusive:
                try:
                    stack.enter_context(self.lease("driver", owner))
                except Held as held:
                    raise RequestError(
                        f"{self.address} has no conditional writes, so it takes "
                        f"one driver at a time, and another is working: {held}. Wait, or use "
                        "another store="
                    ) from held
            yield

    def check_writable(self, verb: str = "run") -> None:
        """Raises RequestError if nothing can be written here: `verb` with another store can do.

        Leaves nothing behind.
        """
        try:
            self.place.check_writable()
        except OSError as error:
            raise RequestError(
                f"the store {self.address} cannot be written: {error.strerror or error}. "
                f"Name a folder that can be, for example: obert-sweeps {verb} store=$HOME/runs"
            ) from error
