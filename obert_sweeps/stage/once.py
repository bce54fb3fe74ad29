"""Files that several stages use and one of them makes: whole, as they were written, and once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..store import Held, StageFolder
from ..store.lease import this_process
from ..store.place.base import fault

_LOOK_SECONDS = 0.5  # how often one who waits looks again


def found(folder: StageFolder, name: str, fits: Callable[[Path], bool]) -> Path | None:
    """`folder/name` if it is there, as it was written, and `fits`."""
    place = folder.get_folder(name)
    return place if place is not None and fault(place) is None and fits(place) else None


def made_once(
    folder: StageFolder,
    name: str,
    fits: Callable[[Path], bool],
    make: Callable[[Path], None],
) -> Path:
    """`folder/name`, made now unless it is `found`.

    One process makes it, under the folder's lease, by filling the folder that `make` is given; the
    others wait. What a killed one left half-made is not taken for it.
    """
    while (place := found(folder, name, fits)) is None:
        try:
            with folder.lease(this_process()):
                if found(folder, name, fits) is None:
                    with folder.new_folder(name) as part:
                        make(part)
        except Held:
            time.sleep(_LOOK_SECONDS)
    return place
