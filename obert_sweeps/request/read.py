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
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..schema import EqualBudget, RequestError
from ..shipped import conf_dir, leaf_names
from .cluster import check_cluster
from .hydra_errors import in_our_words
from .overrides import how_to_sweep, parse

CELL_GROUPS = ("task", "model", "method", "sparsity")  # choosing one narrows the cells
CHAIN_GROUPS = ("schedule", "distill")  # only for table=0
LEAF_GROUPS = CELL_GROUPS + CHAIN_GROUPS
ROOT_GROUPS = ("preset", "cluster", "tracker")  # one leaf of each is always chosen
OVERLAYS = ("task", "model", "method", "stages")  # of a preset: by leaf, by link of a chain
MARK = "leaf_"  # a key of Hydra's grammar must not begin with a digit, and 2of4 does


@dataclass
class Budget:
    """The most that a stage may take; None: as much as its recipe says."""

    max_train_rows: int | None = None  # training rows: a fixed subset, chosen at random
    max_eval_rows: int | None = None  # rows of each split that is scored, likewise
    max_epochs: float | None = None  # passes over the training rows
    max_fisher_gradients: int | None = None  # gradients an inverse-Fisher estimate is made of


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


def read(overrides: list[str]) -> Loaded:
    """Compose a request from the command line's overrides; refuse what could only surprise.

    Raises RequestError naming the override.
    """
    parsed = parse(overrides)
    for override in parsed:
        _refuse_what_touches_nothing(override)
    choices, leaf_overrides = _sort(parsed)
    search = [o for o in overrides if o.startswith("hydra.searchpath")]
    with hydra_session():
        try:
            request = compose("config", overrides=[_as_hydra_takes(o) for o in parsed])
            leaves = every_leaf(search)
            OmegaConf.to_container(request, resolve=True)  # every ${…} leads somewhere
        except (HydraException, OmegaConfBaseException, ValueError, AssertionError) as error:
            chosen = [f"{group}={name}" for group, name in choices.items()]
            raise RequestError(in_our_words(error, [*chosen, *search])) from error
    _check_root(request)
    return Loaded(request, choices, leaf_overrides, leaves, parsed)


def every_leaf(search: list[str]) -> dict[str, dict[str, Any]]:
    """Group -> name -> the leaf, within a `hydra_session`; `search`: more places to look."""
    loader = GlobalHydra.instance().config_loader()
    names = {
        group: loader.get_group_options(group, config_name="config", overrides=search)
        for group in LEAF_GROUPS
    }
    every = [f"+{g}@leaf.{g}.{MARK}{name}={name}" for g in LEAF_GROUPS for name in names[g]]
    found: Any = OmegaConf.to_container(
        compose("config", overrides=[*every, *search]).leaf, resolve=True
    )
    return {
        group: {name.removeprefix(MARK): leaf for name, leaf in found.get(group, {}).items()}
        for group in LEAF_GROUPS
    }


def _sort(parsed: list[Override]) -> tuple[dict[str, str], dict[str, list[Override]]]:
    """Tell choices of a leaf from overrides of a leaf's keys."""
    choices: dict[str, str] = {}
    keys: dict[str, list[Override]] = {}
    for override in parsed:
        group, _, rest = override.key_or_group.partition(".")
        if group not in LEAF_GROUPS + ROOT_GROUPS or (rest and group in ROOT_GROUPS):
            continue
        if rest:
            keys.setdefault(group, []).append(override)
            continue
        value = override.value()
        if isinstance(value, list):
            first = value[0] if value else "NAME"
            how = f"Use {group}={first}." if group in ROOT_GROUPS else how_to_sweep(group)
            raise RequestError(
                f"'{override.input_line}': one {group} at a time, since Hydra would merge them. "
                f"{how}"
            )
        if not isinstance(value, str):
            known = ", ".join(leaf_names(group))
            raise RequestError(
                f"'{override.input_line}': a {group} is chosen by its name. Known: {known}."
            )
        if group in LEAF_GROUPS:
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


def _refuse_what_touches_nothing(override: Override) -> None:
    """Refuse added and removed keys, and what is not the user's to say."""
    key, line = override.key_or_group, override.input_line
    if override.is_hydra_override():
        if key.startswith(("hydra.sweeper", "hydra.launcher", "hydra/sweeper", "hydra/launcher")):
            raise RequestError(f"'{line}': the sweep is not Hydra's. Leave it out.")
        return
    plain = not (override.is_add() or override.is_delete() or override.is_force_add())
    if not plain and (override.is_delete() or not _open_ended(key)):
        group, _, rest = key.partition(".")
        own = (
            f"For others write a leaf of your own in conf/{group}/ and choose it."
            if rest and group in LEAF_GROUPS
            else "Use key=value."
        )
        raise RequestError(f"'{line}': keys can be changed, not added or removed. {own}")
    if key in ("preset.stand_in", "preset.name"):
        raise RequestError(
            f"'{line}': what a preset is called and whether its results are stand-ins is the "
            "preset's own word. Use preset=NAME, or write a preset of your own in conf/preset/."
        )
    if key.partition(".")[0] == "leaf" or override.package is not None:
        raise RequestError(f"'{line}' touches no stage. Leave it out.")


def _open_ended(key: str) -> bool:
    """Whether it is of a preset's word on leaves or stages, which need not be there yet."""
    return key.startswith(tuple(f"preset.{part}." for part in OVERLAYS))


def _as_hydra_takes(override: Override) -> str:
    """An override in Hydra's words.

    What a preset says of a leaf or a stage lies over that one's own keys, most of which it does not
    name, and Hydra would refuse those without a `+`; a misspelt one is refused when it is merged.
    """
    line = str(override.input_line)
    plain = not (override.is_add() or override.is_force_add())
    return f"++{line}" if plain and _open_ended(override.key_or_group) else line


def _check_root(request: DictConfig) -> None:
    for missing in OmegaConf.missing_keys(request):
        if not missing.startswith("cluster.launch."):  # `launch` says what it needs
            raise RequestError(f"{missing} has no value. Use {missing}=…")
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
    check_cluster(request.cluster)
