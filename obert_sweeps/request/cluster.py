"""What the keys of conf/cluster/*.yaml take. A leaf need not have all of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig

from ..schema import RequestError
from .overrides import worded

Takes = tuple[Callable[[Any], bool], str]  # whether it takes a value, and what to use, in words


def check_cluster(cluster: DictConfig) -> None:
    """RequestError for a value with which a stage would not run, or would not be what it says."""
    for key, (takes, needs) in _KEYS.items():
        if key in cluster and not takes(cluster[key]):
            raise RequestError(f"cluster.{key}={worded(cluster[key])}: it must be {needs}.")


def _one_of(*values: str | bool) -> Takes:
    words = [worded(value) for value in values]
    return lambda value: value in values, f"{', '.join(words[:-1])} or {words[-1]}"


def _whole(least: int, null: str = "") -> Takes:
    """`null`: what null stands for, where it may be."""

    def takes(value: Any) -> bool:
        return (value is None and bool(null)) or (type(value) is int and value >= least)

    return takes, f"a whole number, {least} or more" + (f"; or null for {null}" if null else "")


def _above_0(null: str = "") -> Takes:
    def takes(value: Any) -> bool:
        return (value is None and bool(null)) or (_from_0(value) and value > 0)

    return takes, "a number above 0" + (f"; or null for {null}" if null else "")


def _from_0(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _auto_or(takes: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value == "auto" or takes(value)


def _is_device(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"auto|cpu|cuda(:\d+)?", value))


_SECONDS: Takes = (_from_0, "a number from 0")
_KEYS: dict[str, Takes] = {
    "runner": _one_of("ray", "inline"),
    "device": (_is_device, "auto, cpu, cuda, or one GPU, for instance cuda:0"),
    "teacher_logits": _one_of("once", "each_step"),
    "reuse_actors": _one_of("auto", True, False),
    "cpus": _whole(1, null="all"),
    "gpus": (_auto_or(lambda gpus: type(gpus) is int and gpus >= 0), "auto, or a whole number"),
    "cpus_per_stage": _whole(1),
    "gpus_per_stage": (_auto_or(_from_0), "auto, or a number from 0"),
    "workers_per_stage": _whole(1),
    "max_concurrent": _whole(1, null="as many as fit"),
    "max_failures": _whole(0),
    "micro_batch": _whole(1, null="the whole batch"),
    "memory_gb": _above_0(null="what is free"),
    "group_seconds": _above_0(),  # 0 would lose every worker at once
    "checkpoint_seconds": _SECONDS,
    "held_seconds": _SECONDS,
    "wait_seconds": _SECONDS,
    "wait_for_nodes": _whole(1),
}
