"""The objects that the leaves of a stage's recipe describe."""

from __future__ import annotations

from ..make import make
from ..method.base import Method
from ..model.base import Encoder
from ..schema import Runtime, Stage
from ..task.base import Task


def task_of(spec: Stage, how: Runtime) -> Task:
    return make(spec.recipe["task"], how.allow_targets, Task)  # type: ignore[type-abstract]


def encoder_of(spec: Stage, how: Runtime) -> Encoder:
    return make(spec.recipe["model"], how.allow_targets, Encoder)  # type: ignore[type-abstract]


def method_of(spec: Stage, how: Runtime) -> Method:
    return make(spec.recipe["method"], how.allow_targets, Method)
