"""The engines by name, as a recipe lists them: a mapping with `name` and the engine's options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...schema import StageError
from .base import Engine
from .deepsparse_apart import DeepSparse
from .onnx_runtime import OnnxRuntime
from .openvino_cpu import OpenVino
from .torch_2of4 import Torch2of4
from .torch_dense import TorchDense

ENGINES: dict[str, type[Engine]] = {
    kind.name: kind for kind in (OnnxRuntime, OpenVino, DeepSparse, TorchDense, Torch2of4)
}


def engine_of(leaf: Mapping[str, Any]) -> tuple[type[Engine], dict[str, Any]]:
    """The class and the options. StageError for a name that no engine has."""
    options = dict(leaf)
    name = options.pop("name", None)
    if name not in ENGINES:
        raise StageError(f"there is no engine {name!r}. Choose from {', '.join(ENGINES)}.")
    return ENGINES[name], options
