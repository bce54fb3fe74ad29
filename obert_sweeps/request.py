"""Reading a request: the strict schema of the command line, composed by Hydra in two calls.

The first call gives the request, the second every leaf of every group at once. What could only
surprise (sweeps, added keys, keys of a leaf that was not chosen) is refused with the way to say it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .schema import EqualBudget, RequestError
from .shipped import conf_dir, leaf_names

CELL_GROUPS = ("task", "model", "method", "sparsity")  # choosing one narrows the cells
CHAIN_GROUPS = ("schedule", "distill")  # only for table=0
LEAF_GROUPS = CELL_GROUPS + CHAIN_GROUPS
OVERLAYS = ("task", "model", "method", "stages")  # of a preset: by leaf, by link of a chain
MARK = "leaf_"  # a key of Hydra's grammar must not begin with a digit, and 2of4 does


@dataclass
class Budget:
    max_train_rows: int | None = None
    max_eval_rows: int | None = None
    max_epochs: float | None = None
    max_fisher_gradients: int | None = None


@dataclass
class Preset:
    """What a preset changes in the leaves: by name, or `*` for all of a group."""

    name: str = "demo"
    stand_in: bool = True
    seeds: list[int] = field(default_factory=lambda: [42])
    pretrain: str | None = None  # the schedule that `start: pretrained` means, if any
    first: list[str] | None = None
    task: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, Any] = field(default_factory=dict)  # by link of a chain, e.g. `transfer`
    equal_budget: EqualBudget = field(default_factory=EqualBudget)


@dataclass
class Request:
    """The strict schema of config.yaml."""

    task: Any = None
    model: Any = None
    method: Any = None
    sparsity: Any = None
    schedule: Any = None
    distill: Any = None
    cluster: Any = None
    tracker: Any = None
    preset: Preset = field(default_factory=Preset)
    table: Any = "all"
    cells: Any = None
    seeds: Any = None
    base_seed: int = 42
    vary: str = "result"
    comparison: str = "as_published"
    data_root: str | None = None
    store: str = "runs"
    format: str = "text"
    confirm: bool = False
    stage: str | None = None
    budget: Budget = field(default_factory=Budget)
    allow_targets: list[str] = field(default_factory=list)
    leaf: dict[str, Any] = field(default_factory=dict)  # filled by compose, not by people


def register_schema() -> None:
    ConfigStore.instance().store("schema", Request)


@contextmanager
def hydra_session() -> Iterator[None]:
    register_schema()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="obert-sweeps"):
        yield


@dataclass
class Loaded:
    """A composed request, what of it the user said, and every leaf it can use."""

    request: DictConfig
    choices: dict[str, str]  # group -> the leaf the user chose
    leaf_overrides: dict[str, list[Override]]  # group -> overrides of the chosen leaf's keys
    leaves: dict[str, dict[str, Any]]  # group -> name -> plain data as in the YAML
    overrides: list[Override]  # all of them, as parsed


def how_to_sweep(key: str) -> str:
    """How several values are asked for, where Hydra would have a list of them."""
    return (
        "Several of the document's cells: table=[1,4], cells='t5/sst2/*', seeds=3. For a cell of "
        "your own type one command for each value; they share stages in one store, and the last "
        f"report has them all: for v in A B; do obert-sweeps run table=0 … {key}=$v; done"
    )


def first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def read(overrides: list[str]) -> Loaded:
    """Compose a request from the command line's overrides; refuse what could only surprise.

    Raises RequestError naming the override.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise RequestError(f"cannot read the overrides: {first_line(error)}") from error
    choices, leaf_overrides = _sort(parsed)
    with hydra_session():
        try:
            request = compose("config", overrides=[_as_hydra_takes(o) for o in parsed])
            loader = GlobalHydra.instance().config_loader()
            names = {g: loader.get_group_options(g) for g in LEAF_GROUPS}
            every = [f"+{g}@leaf.{g}.{MARK}{n}={n}" for g in LEAF_GROUPS for n in names[g]]
            search = [o for o in overrides if o.startswith("hydra.searchpath")]
            leaves: Any = OmegaConf.to_container(
                compose("config", overrides=[*every, *search]).leaf, resolve=True
            )
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise RequestError(_explain(error)) from error
    _check_root(request)
    every_leaf = {
        group: {name.removeprefix(MARK): leaf for name, leaf in leaves.get(group, {}).items()}
        for group in LEAF_GROUPS
    }
    return Loaded(request, choices, leaf_overrides, every_leaf, parsed)


def _sort(parsed: list[Override]) -> tuple[dict[str, str], dict[str, list[Override]]]:
    """Tell choices of a leaf from overrides of a leaf's keys."""
    choices: dict[str, str] = {}
    keys: dict[str, list[Override]] = {}
    for override in parsed:
        group, _, rest = override.key_or_group.partition(".")
        if override.is_sweep_override():
            raise RequestError(
                f"'{override.input_line}' is a Hydra sweep, which is not supported. "
                f"{how_to_sweep(override.key_or_group)}"
            )
        if group not in LEAF_GROUPS:
            continue
        if override.is_add() or override.is_delete() or override.is_force_add():
            raise RequestError(
                f"'{override.input_line}': a leaf's keys can be changed, not added or removed. "
                f"For others write a leaf of your own in conf/{group}/ and choose it."
            )
        if rest:
            keys.setdefault(group, []).append(override)
            continue
        value = override.value()
        if isinstance(value, list):
            raise RequestError(
                f"'{override.input_line}': one {group} at a time, since Hydra would merge them. "
                f"{how_to_sweep(group)}"
            )
        if not isinstance(value, str):
            known = ", ".join(leaf_names(group))
            raise RequestError(
                f"'{override.input_line}': a {group} is chosen by its name. Known: {known}."
            )
        choices[group] = value
    for group, overrides in keys.items():
        if group not in choices:
            first = overrides[0].input_line
            if group == "sparsity":
                raise RequestError(
                    f"'{first}' has no sparsity to change: the level is part of the document's "
                    f"cells. For a cell of your own use table=0 … sparsity=unstructured {first}"
                )
            raise RequestError(
                f"'{first}' has no {group} to change: choose one first, for instance "
                f"{group}=… {first}"
            )
    return choices, keys


def _as_hydra_takes(override: Override) -> str:
    """An override in Hydra's words.

    What a preset says of a leaf or a stage lies over that one's own keys, most of which it does not
    name, and Hydra would refuse those without a `+`; a misspelt one is refused when it is merged.
    """
    line = str(override.input_line)
    open_ended = override.key_or_group.startswith(tuple(f"preset.{part}." for part in OVERLAYS))
    plain = not (override.is_add() or override.is_delete() or override.is_force_add())
    return f"++{line}" if open_ended and plain else line


def _explain(error: Exception) -> str:
    text = str(error).strip().split("Config search path:")[0].strip()
    text = text.replace("Could not override", "there is no key").replace("In 'config': ", "")
    lines = [line for line in text.splitlines() if line and "use +" not in line]
    return "\n".join(lines) + "\nSee the keys with: obert-sweeps plan --cfg job"


def _check_root(request: DictConfig) -> None:
    for key, allowed in (
        ("vary", ("result", "all")),
        ("format", ("text", "json")),
        ("comparison", ("as_published", "equal_budget")),
    ):
        if request[key] not in allowed:
            raise RequestError(
                f"{key}={request[key]} is unknown. Use {key}={' or '.join(allowed)}."
            )
    for group in ("budget", "preset.equal_budget"):
        for key, value in OmegaConf.select(request, group).items():
            if value is not None and not 0 < value < math.inf:
                raise RequestError(f"{group}.{key}={value:g}: it must be above 0.")
