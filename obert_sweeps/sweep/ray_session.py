"""Ray up, Ray down: a cluster of this machine alone or one that is there already, and quiet."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import ray
from ray._private import services
from ray._raylet import GcsClient  # type: ignore[attr-defined]

from ..schema import Interrupted, RequestError
from ..store.lease import process_start
from .signals import interruptible

_PREFIX = "obert-"
_KNOCK_SECONDS = 5.0
_OBJECT_STORE_BYTES = 200 * 10**6  # stages exchange files, not objects

# For the driver: Tune writes no logs and no snapshots of its own, prints nothing and leaves the
# signals to us.
_DRIVER = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}

# For the workers, who inherit it or get it with the job: relative paths mean what they meant, a
# stage without a GPU sees none, and idle OpenMP threads do not spin on cores that others use.
_WORKER = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
}


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Environment variables for a while; what the user has set himself stays."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


@contextmanager
def session(cluster: dict[str, Any], shared: Path) -> Iterator[Path]:
    """Ray, running; yields a folder for Tune's bookkeeping, which vanishes with the session.

    `cluster`: the keys of conf/cluster/local.yaml. `shared`: a folder that every node sees.
    Raises RequestError where Ray cannot be started or reached, Interrupted on a signal meanwhile.
    """
    address = cluster.get("address")
    place = _short_temporary_folder()
    _remove_leftovers(place)
    own = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place))
    if address:
        shared.mkdir(parents=True, exist_ok=True)  # the first run in this store
    bookkeeping = Path(tempfile.mkdtemp(prefix=".tune-", dir=shared)) if address else own / "tune"
    if address:
        wanted = {"address": address, "runtime_env": {"env_vars": _WORKER}}
    else:
        gpus = cluster.get("gpus", "auto")
        wanted = {
            "address": "local",
            "num_cpus": cluster.get("cpus"),
            "num_gpus": None if gpus == "auto" else gpus,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "_temp_dir": str(own / "ray"),
        }
    with environment(**_DRIVER, **_WORKER), _quiet():
        try:
            _start(wanted, float(cluster.get("wait_seconds", 0.0)))
            if address:
                _wait(
                    int(cluster.get("wait_for_nodes", 1)), float(cluster.get("wait_seconds", 0.0))
                )
            yield bookkeeping
        finally:
            ray.shutdown()
            shutil.rmtree(own, ignore_errors=True)
            shutil.rmtree(bookkeeping, ignore_errors=True)


def _start(wanted: dict[str, Any], wait_seconds: float) -> None:
    """Start Ray, or connect to it; a head that is still starting is tried again."""
    end = time.monotonic() + (0.0 if wanted["address"] == "local" else wait_seconds)
    with interruptible():
        try:
            while not _started(wanted, end):
                time.sleep(1.0)
        except SystemExit as stop:  # ray.init puts a handler of its own in place of ours
            if stop.code != signal.SIGTERM:
                raise
            raise Interrupted(signal.SIGTERM) from None


def _started(wanted: dict[str, Any], end: float) -> bool:
    """One attempt; RequestError where it failed and no time is left, or more would not help."""
    try:
        _knock(wanted["address"])
        ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **wanted)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        if time.monotonic() < end:
            return False
        raise RequestError(_not_started(wanted["address"], error)) from error
    return True


def _knock(address: str) -> None:
    """OSError where nothing listens at HOST:PORT; Ray takes over a minute to say so.

    RequestError where the head wants a token, which Ray tries again and again without.
    """
    found = services.canonicalize_bootstrap_address(address) if address == "auto" else address
    found = found or ""
    host, colon, port = found.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()
    if not found.startswith("ray://"):
        _refuse_without_token(address, found)


def _refuse_without_token(address: str, found: str) -> None:
    try:
        GcsClient(address=found)
    except ray.exceptions.RayError as error:
        if "AuthToken" in str(error) or "Unauthenticated" in str(error):
            raise RequestError(
                f"the Ray cluster at cluster.address={address} has a token, and this shell has "
                "none or another. Set the cluster's: export RAY_AUTH_MODE=token "
                "RAY_AUTH_TOKEN=TOKEN; launchers/README.md says more"
            ) from error


def _not_started(address: str, error: Exception) -> str:
    said = f"({type(error).__name__}: {error})"
    if address == "local":
        return (
            f"Ray did not start {said}. Try without it: obert-sweeps run cluster=inline; or see "
            "what is wrong: obert-sweeps doctor"
        )
    return (
        f"no Ray cluster was reached at cluster.address={address} {said}. See its address on its "
        "head with: ray status; wait longer with cluster.wait_seconds=600; or leave "
        "cluster.address out to start Ray here"
    )


def _wait(nodes: int, seconds: float) -> None:
    """Until so many nodes have joined: what stages ask for is checked against those."""
    end = time.monotonic() + seconds
    with interruptible():
        while (there := sum(node["Alive"] for node in ray.nodes())) < nodes:
            if time.monotonic() > end:
                raise RequestError(
                    f"after {seconds:g} s the cluster has {there} of the {nodes} nodes of "
                    "cluster.wait_for_nodes. See why with: ray status. Or begin with fewer"
                )
            time.sleep(1.0)


@contextmanager
def _quiet() -> Iterator[None]:
    """What Ray and Tune say through logging, warnings and on stdout goes nowhere; dead workers, for
    one, are announced on stdout. So a listener must not print there.
    """
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _short_temporary_folder() -> Path:
    """Ray puts sockets some 70 characters below its folder; a socket's path has at most 107."""
    place = Path(tempfile.gettempdir())
    return place if len(str(place)) <= 15 else Path("/tmp")


def _remove_leftovers(place: Path) -> None:
    """Folders of drivers that were killed."""
    for folder in place.glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and process_start(int(pid)) is None and Path("/proc/self").exists():
            shutil.rmtree(folder, ignore_errors=True)
