"""Launch files: what starts a sweep on a cluster, filled in from the request.

A leaf conf/cluster/<name>.yaml with a key `launch` names a template of launchers/; its other launch
keys are a dataclass here, checked before anything is printed. What the file runs in the end is the
same program with the same request, but for the keys that only the launch needed.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ...request.overrides import spelled, worded
from ...request.read import Loaded
from ...schema import RequestError, first_line
from ...shipped import conf_dir, shipped

_PLAIN = re.compile(r"[\w.,:/@%+=~-]+")  # what needs no quotes in Slurm, YAML or a shell


@dataclass
class SlurmJob:
    """The keys of conf/cluster/slurm.yaml's `launch`."""

    file: str
    name: str
    nodes: int
    cpus_per_node: int
    gpus_per_node: int
    memory_gb: int | None
    time: str
    grace_seconds: int
    requeues: int
    partition: str | None
    account: str | None
    environment: str | None
    setup: str | None
    image: str | None
    least: ClassVar[dict[str, int]] = {"nodes": 1, "cpus_per_node": 1}
    here: ClassVar[bool] = True  # it runs in this folder, so that relative paths mean the same

    def ray_nodes(self) -> int:
        return self.nodes

    def has(self) -> dict[str, int]:
        return {"cpus": self.cpus_per_node, "gpus": self.gpus_per_node}

    def shared(self, store: str, said: bool) -> str:
        return store  # the job runs in this folder, on nodes that must see it


@dataclass
class KubeRayJob:
    """The keys of conf/cluster/kuberay.yaml's `launch`."""

    file: str
    name: str
    image: str
    workers: int
    cpus_per_worker: int
    gpus_per_worker: int
    memory_gb: int
    claim: str | None
    mount: str
    secret: str | None
    queue: str | None
    retries: int
    keep_seconds: int
    deadline_seconds: int | None
    least: ClassVar[dict[str, int]] = {"workers": 1, "cpus_per_worker": 1, "memory_gb": 1}
    here: ClassVar[bool] = False
    environment: ClassVar[None] = None

    def ray_nodes(self) -> int:
        return self.workers + 1

    def has(self) -> dict[str, int]:
        return {"cpus": self.cpus_per_worker, "gpus": self.gpus_per_worker}

    def shared(self, store: str, said: bool) -> str:
        return _seen_by_all(store, said, self.mount if self.claim else None, "claim=NAME")


@dataclass
class RentedCluster:
    """The keys of conf/cluster/ray.yaml's `launch`."""

    file: str
    name: str
    image: str
    region: str
    head_type: str
    worker_type: str
    workers: int
    min_workers: int
    idle_minutes: int
    spot: bool
    mount: str | None
    least: ClassVar[dict[str, int]] = {"workers": 1, "min_workers": 1}
    here: ClassVar[bool] = False
    environment: ClassVar[None] = None

    def ray_nodes(self) -> int:
        return self.min_workers + 1

    def has(self) -> dict[str, int]:
        return {}  # the machine's type says it, to the cloud

    def shared(self, store: str, said: bool) -> str:
        return _seen_by_all(store, said, self.mount, "mount=/FOLDER")


Launch = SlurmJob | KubeRayJob | RentedCluster
KINDS: dict[str, type[Launch]] = {
    "slurm.sbatch": SlurmJob,
    "kuberay.yaml": KubeRayJob,
    "ray_cluster.yaml": RentedCluster,
}


def render(loaded: Loaded) -> str:
    """The launch file of a request.

    Raises RequestError where the cluster is none to launch on, a key is of the wrong kind, or the
    store is not seen by all nodes.
    """
    launch = _launch_of(loaded)
    store = str(loaded.request.store)
    said = any(o.key_or_group == "store" for o in loaded.overrides)
    words = ["obert-sweeps", "run", *_request_words(loaded, launch, launch.shared(store, said))]
    values = asdict(launch) | {
        "command": shlex.join(words),
        "folder": _plain("the working folder", str(Path.cwd())),
        "store_folder": None if "://" in store else str(Path(store).expanduser().absolute()),
        "ray_version": version("ray"),
        "bin": str(Path(launch.environment or sys.prefix).absolute() / "bin"),
    }
    environment = Environment(
        loader=FileSystemLoader(shipped("launchers")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"sh": shlex.quote, "yaml": _yaml}
    return environment.get_template(launch.file).render(values)


def _launch_of(loaded: Loaded) -> Launch:
    node = OmegaConf.select(loaded.request, "cluster.launch")
    if node is None:
        raise RequestError(
            "this cluster cannot be launched. Choose one: obert-sweeps launch cluster=slurm, "
            "cluster=kuberay or cluster=ray. Without a launch file: obert-sweeps run"
        )
    kind = KINDS.get(str(node.get("file")))
    if kind is None:
        raise RequestError(
            f"cluster.launch.file={node.get('file')} is not a template. Known: {', '.join(KINDS)}"
        )
    if missing := sorted(OmegaConf.missing_keys(node)):
        raise RequestError(f"{missing[0]} has no default: give {missing[0]}=…")
    try:
        launch: Launch = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), node))  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise RequestError(f"cluster.launch.{error.full_key}: {first_line(error)}") from error
    for key, value in asdict(launch).items():
        if isinstance(value, str):
            _plain(f"cluster.launch.{key}", value)
        elif isinstance(value, int) and value < launch.least.get(key, 0):
            least = launch.least.get(key, 0)
            raise RequestError(f"cluster.launch.{key}={value}: it must be at least {least}")
    return launch


def _request_words(loaded: Loaded, launch: Launch, store: str) -> list[str]:
    """The request as said, without what only the launch needed; cluster keys as composed."""
    words = []
    for override in loaded.overrides:
        key = override.key_or_group
        if key in ("data_root", "model.path") and not launch.here:
            _whole(key, str(override.value()))
        if key.partition(".")[0] not in ("cluster", "store"):
            words.append(override.input_line)
    local: dict[str, Any] = OmegaConf.to_container(  # type: ignore[assignment]
        OmegaConf.load(conf_dir() / "cluster" / "local.yaml")
    )
    cluster: dict[str, Any] = OmegaConf.to_container(loaded.request.cluster, resolve=True)  # type: ignore[assignment]
    del cluster["launch"]
    if cluster["wait_for_nodes"] == local["wait_for_nodes"]:
        cluster["wait_for_nodes"] = launch.ray_nodes()
    _fit(cluster, launch.has())
    words += [f"store={spelled(store)}"]
    words += [f"cluster.{k}={_hydra(v)}" for k, v in cluster.items() if v != local[k]]
    return words


def _fit(cluster: dict[str, Any], has: dict[str, int]) -> None:
    """Settle `gpus_per_stage: auto`; refuse a stage that no node has room for."""
    if cluster["gpus_per_stage"] == "auto":
        cluster["gpus_per_stage"] = min(1, has.get("gpus", 0))
    for what, most in has.items():
        asked = cluster[f"{what}_per_stage"]
        if asked > most:
            raise RequestError(
                f"a worker of a stage asks for {asked:g} {what} and a node has {most}. Use "
                f"cluster.{what}_per_stage={most}, or ask for larger nodes in cluster.launch"
            )


def _whole(key: str, path: str) -> None:
    if not Path(path).is_absolute() and "://" not in path:
        raise RequestError(f"{key}={path}: give the whole path, as the nodes see it")


def _seen_by_all(store: str, said: bool, mount: str | None, how: str) -> str:
    """A store that every node sees: a URL, or below the mounted folder."""
    if "://" in store:
        return store
    if mount is None:
        raise RequestError(
            f"store={store} is a folder, and the nodes share none. Use store=s3://BUCKET/runs, or "
            f"cluster.launch.{how} and a store on it"
        )
    if not said:
        return mount
    if not Path(store).is_relative_to(mount):
        raise RequestError(f"store={store} is not below {mount}, which the nodes share")
    return store


def _plain(what: str, value: str) -> str:
    if not _PLAIN.fullmatch(value):
        raise RequestError(
            f"{what} is {value!r}: a launch file takes letters, digits and . , : / @ % + = ~ - _"
        )
    return value


def _hydra(value: Any) -> str:
    return spelled(value) if isinstance(value, str) else worded(value)


def _yaml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
