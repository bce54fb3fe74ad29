"""The engines by name, as a recipe lists them: a mapping with `name` and the engine's options.

A plan looks names and options up here, and a plan imports nothing heavy: an engine's class is
imported when it is asked for.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...schema import RequestError, StageError

if TYPE_CHECKING:
    from .base import Engine


@dataclass(frozen=True)
class Known:
    """Where an engine's class is, in this package, and the options that its constructor takes.

    Threads are no option: they are those of the stage.
    """

    module: str
    kind: str
    options: tuple[str, ...] = ()


_TORCH = ("device", "precision", "compiled")
ENGINES = {
    "onnxruntime": Known("onnx_runtime", "OnnxRuntime"),
    "openvino": Known("openvino_cpu", "OpenVino", ("precision",)),
    "deepsparse": Known("deepsparse_apart", "DeepSparse"),
    "torch": Known("torch_dense", "TorchDense", _TORCH),
    "torch-2of4": Known("torch_2of4", "Torch2of4", _TORCH),
}


def check_engine(leaf: Mapping[str, Any]) -> None:
    """RequestError for a name that no engine has, and for an option that it does not take."""
    name = leaf.get("name")
    if name not in ENGINES:
        raise RequestError(f"there is no engine {name!r}. Choose from {', '.join(ENGINES)}.")
    options = ENGINES[name].options
    for option in leaf:
        if option not in ("name", *options):
            takes = f"takes {', '.join(options)}" if options else "has no options"
            raise RequestError(f"engine {name} does not know '{option}': it {takes}.")


def class_of(name: str) -> type[Engine]:
    """The class of one of ENGINES."""
    known = ENGINES[name]
    kind: type[Engine] = getattr(
        importlib.import_module(f".{known.module}", __package__), known.kind
    )
    return kind


def engine_of(leaf: Mapping[str, Any]) -> tuple[type[Engine], dict[str, Any]]:
    """The class and the options. RequestError as of `check_engine`."""
    check_engine(leaf)
    return class_of(leaf["name"]), {key: leaf[key] for key in leaf if key != "name"}


def survey() -> list[dict[str, str | None]]:
    """Of each engine its `name`, and its `version`, or what it lacks here (`missing`)."""
    found = []
    for name in ENGINES:
        kind = class_of(name)
        missing, version = kind.missing(), None
        if missing is None:
            try:
                version = kind.version()
            except (StageError, ImportError, OSError) as error:
                missing = f"it is installed and does not start: {error}"
        found.append({"name": name, "version": version, "missing": missing})
    return found


if __name__ == "__main__":
    # `doctor` asks this in a process of its own, since the driver imports no torch.
    print(json.dumps(survey()))
