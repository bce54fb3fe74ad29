"""`doctor`: what works here, what does not, and the mend. Starts nothing, writes nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.table import Table

from ...amounts import counted, size
from ...plan.dag import Plan, make_plan
from ...plan.to_run import to_run
from ...request.read import Loaded
from ...schema import RequestError
from ...store import Store
from ...store.place.base import cannot_write
from ..answer import answer, console
from ..caveats import MAKE_ROOM, no_room_for
from ..child import ChildDied, ask
from ..settings import store_of

NEEDED = ("torch", "transformers", "datasets", "ray", "hydra-core", "wandb", "torchmetrics")
INSTALL = "pip install -c constraints.txt -e ."


def main(loaded: Loaded) -> int:
    checks = [
        *packages(),
        devices(),
        *engines(),
        *machine(),
        store(str(loaded.request.store)),
        *inputs(loaded),
        wandb_key(loaded),
        ray_sessions(),
    ]
    document = {"ok": all(c["ok"] for c in checks), "checks": checks}
    answer(loaded, document, show)
    return 0 if document["ok"] else 1


def show(document: Mapping[str, Any]) -> None:
    table = Table("", "what", "found", "fix", box=None)
    for row in document["checks"]:
        mark = "!!" if not row["ok"] else "--" if row["mend"] else "ok"
        table.add_row(mark, row["what"], row["found"], row["mend"])
    console().print(table)


def check(what: str, ok: bool, found: str, mend: str = "") -> dict[str, Any]:
    """A row of the answer: what was looked at, whether it will do, and the mend if not."""
    return {"what": what, "ok": ok, "found": found, "mend": "" if ok else mend}


def packages() -> list[dict[str, Any]]:
    rows = [check("python", sys.version_info >= (3, 11), platform.python_version(), "Python 3.11")]
    for name in NEEDED:
        try:
            rows.append(check(name, True, version(name)))
        except PackageNotFoundError:
            rows.append(check(name, False, "not installed", INSTALL))
    return rows


def devices() -> dict[str, Any]:
    """What torch sees."""
    if importlib.util.find_spec("torch") is None:
        return check("devices", False, "torch is missing", INSTALL)
    code = (
        "import torch; n = torch.cuda.device_count(); "
        "print('; '.join(torch.cuda.get_device_name(i) for i in range(n)) or 'CPU only')"
    )
    try:
        return check("devices", True, ask("-c", code).strip())
    except ChildDied as died:
        return check("devices", False, str(died), INSTALL)


def engines() -> list[dict[str, Any]]:
    """The inference engines of table 3: one that is missing is no fault, but for the first.

    Every export is checked in ONNX Runtime.
    """
    try:
        known = json.loads(ask("-m", "obert_sweeps.deploy.engines.known"))
    except ChildDied as died:
        return [check("engines", False, str(died), INSTALL)]
    return [
        {
            "what": f"engine {engine['name']}",
            "ok": engine["missing"] is None or engine["name"] != "onnxruntime",
            "found": engine["version"] or "not here",
            "mend": engine["missing"] or "",
        }
        for engine in known
    ]


def machine() -> list[dict[str, Any]]:
    """The cores that this process may use, and the memory of the whole machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [
        check("cores", True, str(cores)),
        check("memory", memory > 4e9, size(memory), "at least 4 GB for the demo"),
    ]


def store(root: str) -> dict[str, Any]:
    """Whether results can be written there, and those that are there read."""
    try:
        there = Store(root)
    except RequestError as error:  # no place that there is a back end for
        return check("store", False, root, str(error))
    try:
        there.check_writable("doctor")
        for stage in there.ids():
            there.result(stage), there.failure(stage), there.folder(stage).has_folder("model")
        there.cells()
    except RequestError as error:
        return check("store", False, there.address, str(error))
    except OSError as error:
        return check("store", False, there.address, cannot_write(error) or str(error))
    place = next(p for p in (there.root, *there.root.parents) if p.exists())
    free = shutil.disk_usage(place).free
    return check(
        "store",
        free > 1e9,
        f"{there.address}, {size(free)} free",
        "free space: obert-sweeps gc; or store=DIR",
    )


def inputs(loaded: Loaded) -> list[dict[str, Any]]:
    """Whether the request's data and checkpoints are at hand, and room for its results."""
    try:
        plan = make_plan(loaded)
    except RequestError as error:
        return [check("data and models", False, "not found", str(error))]
    need = sum(s.cost["disk_bytes"] for s in plan.wanted())
    blocked = sorted({str(c.blocked) for c in plan.selected() if c.blocked})
    halted = sum(bool(c.blocked) for c in plan.selected())
    found = f"{counted(len(plan.selected()), 'cell')}, {halted} blocked, {size(need)} of results"
    return [check("data and models", not blocked, found, "; ".join(blocked)), *room(loaded, plan)]


def room(loaded: Loaded, plan: Plan) -> list[dict[str, Any]]:
    """A row where the results to come are larger than the store's disk has room for."""
    try:
        there = store_of(loaded)
        missing = no_room_for(to_run(plan.wanted(), there), there)
    except (RequestError, OSError):  # the store's own row says it
        return []
    return [] if missing is None else [check("room", False, missing, MAKE_ROOM)]


def wandb_key(loaded: Loaded) -> dict[str, Any]:
    """Whether uploads have a key, where the request asks for any."""
    mode = (loaded.request.tracker or {}).get("mode")
    if mode != "online":
        return check("W&B", True, f"{mode or 'no tracking'}: no key needed")
    netrc = Path.home() / ".netrc"
    known = "WANDB_API_KEY" in os.environ or (netrc.is_file() and "wandb" in netrc.read_text())
    return check("W&B", known, "online, key found" if known else "online, no key", "wandb login")


def ray_sessions() -> dict[str, Any]:
    """Ray processes of somebody's: a new session starts beside them, on ports of its own."""
    alive = 0
    for entry in Path("/proc").glob("[0-9]*/comm"):
        try:
            alive += entry.read_text().strip() in ("raylet", "gcs_server")
        except OSError:
            continue
    return check("Ray", True, f"{alive} Ray server processes on this machine")
