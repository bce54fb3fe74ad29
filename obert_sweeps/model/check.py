"""What a checkpoint folder holds, read without torch: is it one, and of which dimensions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..schema import RequestError

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
MODEL_TYPES = ("bert", "mobilebert")

_REQUIRED = ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size")


def check_checkpoint(path: str) -> dict[str, Any]:
    """The content of config.json of a checkpoint folder in the hub's layout.

    Raises RequestError if the folder, its config.json or its weights are missing or unreadable, or
    if the model is of a kind that is not known here. Only safetensors count as weights.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise RequestError(
            f"there is no model folder {folder}. Give a folder with config.json and"
            " model.safetensors: model.path=DIR"
        )
    config = _read_config(folder)
    if not any((folder / name).is_file() for name in WEIGHTS):
        others = sorted(f.name for pattern in ("*.bin", "*.h5") for f in folder.glob(pattern))
        found = f" ({', '.join(others)} is not read: it may run code)" if others else ""
        raise RequestError(
            f"the model folder {folder} has no weights{found}: neither {' nor '.join(WEIGHTS)}."
            " Save the model into it with save_pretrained (safetensors), or name another:"
            " model.path=DIR"
        )
    return config


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(
            f"the model folder {folder} has no config.json. Give a folder as save_pretrained"
            " writes it: model.path=DIR"
        ) from None
    except (OSError, ValueError) as error:
        raise RequestError(
            f"{file} cannot be read ({error}). Copy the checkpoint again, or name another:"
            " model.path=DIR"
        ) from error
    if not isinstance(config, dict) or config.get("model_type") not in MODEL_TYPES:
        kind = config.get("model_type") if isinstance(config, dict) else None
        raise RequestError(
            f"{file} describes a model of type {kind!r}; known are {', '.join(MODEL_TYPES)}. Name"
            " a checkpoint of one of these: model.path=DIR"
        )
    missing = [key for key in _REQUIRED if not isinstance(config.get(key), int)]
    if missing:
        raise RequestError(
            f"{file} does not say {', '.join(missing)}. Copy the checkpoint again, or name another:"
            " model.path=DIR"
        )
    return config
