"""What a checkpoint folder holds, read without torch: is it one, and of which dimensions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..schema import RequestError

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
TOKENIZER = (
    *("tokenizer.json", "vocab.txt"),  # one of these is needed
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
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


def checkpoint_files(path: str) -> list[Path]:
    """The files of a checkpoint folder that a stage's result depends on.

    Raises RequestError where weights are cut off or there is no tokenizer.
    """
    folder = Path(path).expanduser()
    weights = sorted(folder.glob("*.safetensors"))
    for file in weights:
        _check_weights(file)
    tokenizer = [folder / name for name in TOKENIZER if (folder / name).is_file()]
    if not any((folder / name).is_file() for name in TOKENIZER[:2]):
        raise RequestError(
            f"the model folder {folder} has no tokenizer: neither {' nor '.join(TOKENIZER[:2])}."
            " Save the model's tokenizer into it with save_pretrained."
        )
    return [folder / "config.json", *tokenizer, *weights]


def _check_weights(file: Path) -> None:
    """The header of a safetensors file says how long the file is: 8 bytes, its length, JSON."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            size = file.stat().st_size
            tensors = json.loads(stream.read(min(length, size)))
        ends = [t["data_offsets"][1] for name, t in tensors.items() if name != "__metadata__"]
        whole = size == 8 + length + max(ends, default=0)
    except OSError as error:
        raise RequestError(f"cannot read {file}: {error.strerror}.") from error
    except (AttributeError, KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise RequestError(
            f"{file} is damaged or cut off. Copy the checkpoint again, or name another:"
            " model.path=DIR"
        )


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
