"""The engine protocol: load an exported model, run batches, say what runs and how."""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...schema import Interrupted, StageError, first_line

Arrays = Mapping[str, np.ndarray]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")  # of every exported model, (B, L)
OUTPUTS = ("start_logits", "end_logits", "logits")  # those there are, in this order


@dataclass
class Outcome:
    """The logits by name, float32, and what the engine itself took: wall and CPU seconds.

    CPU seconds are of all threads. On a machine that is busy with other work they are the steadier
    of the two; on a GPU they say nothing.
    """

    logits: dict[str, np.ndarray]
    seconds: float
    cpu_seconds: float


class Watch:
    """Wall and CPU seconds of what runs within it."""

    def __enter__(self) -> Watch:
        self.seconds, self.cpu_seconds = -time.perf_counter(), -time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter()
        self.cpu_seconds += time.process_time()


@dataclass
class ProductCounts:
    """How many matrix products of the optimised graph run in integers, and how many do not."""

    integer: int
    floating: int

    @property
    def share(self) -> float:
        total = self.integer + self.floating
        return self.integer / total if total else 0.0

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "share": self.share}


class EngineFailed(StageError):
    """An engine did not get through a batch that it was given: it is at fault, and no task."""


class Engine(ABC):
    """One exported model in one engine. Constructing it raises StageError if the engine is missing.

    `form` is the ONNX form of quantised models that the engine accelerates (onnx_layers.FORMS).
    """

    name: ClassVar[str]
    form: ClassVar[str | None] = None
    fixed_shapes: ClassVar[bool] = False  # compiles for each (batch, length): keep them few

    def __init__(self, *, threads: int = 1) -> None:
        self.threads = threads
        self.reduced = False  # whether it computes float layers in 16 bits
        if (mend := self.missing()) is not None:
            raise StageError(f"engine {self.name} is missing: {mend}")

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """What the engine lacks here and the command that gets it; None if it is here."""

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """The version of the engine that is here; it is imported, or asked, for it."""

    def beside(self) -> Engine:
        """The engine for the dense model that this one's speed is compared with: as this one is
        set, on the same device, and nothing loaded."""
        return copy.copy(self)

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Load the model exported to `folder` (see export.py). StageError if it cannot be read."""

    @abstractmethod
    def run(self, inputs: Arrays) -> Outcome:
        """One batch; inputs are int64 (B, L) by name.

        StageError for a wrong name, EngineFailed where the engine itself fails.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Version, flags, threads and what is known of the kernels of the loaded model."""

    @abstractmethod
    def close(self) -> None:
        """Give back what it holds; nothing runs afterwards."""


def onnx_file(folder: Path, form: str | None) -> Path:
    """The ONNX file of `folder` in that form, else the float32 one. StageError if there is none."""
    for name in (f"model.{form}.onnx", "model.onnx"):
        if (folder / name).is_file():
            return folder / name
    raise StageError(f"there is no ONNX model in {folder}. Export the model into it first.")


def unreadable(file: Path, engine: str, error: BaseException) -> StageError:
    """The error for a file that an engine refuses."""
    return StageError(
        f"{engine} cannot read {file} ({file.stat().st_size} bytes): {cause(error)}."
        " It may be cut off or damaged: export the model again."
    )


def cause(error: BaseException) -> str:
    """The first line of a library's error, without OpenVINO's of where it was raised."""
    lines = (line.strip() for line in str(error).splitlines())
    told = (line for line in lines if line and not line.startswith("Exception from "))
    return next(told, first_line(error))


@contextmanager
def failures_told(engine: str, inputs: Arrays) -> Iterator[None]:
    """Within it an error of the engine's library is an EngineFailed that names the batch."""
    try:
        yield
    except (Interrupted, StageError):
        raise
    except Exception as error:  # ONNX Runtime's own classes have no common base
        raise EngineFailed(f"{engine} failed on {batch_of(inputs)}: {cause(error)}") from error


def batch_of(inputs: Arrays) -> str:
    """A batch, for people: its rows and their length."""
    return "a batch of " + " x ".join(map(str, next(iter(inputs.values())).shape))


def ordered(inputs: Arrays, names: list[str]) -> dict[str, np.ndarray]:
    """The inputs as int64, contiguous, in the model's order. StageError unless the names agree."""
    if set(inputs) != set(names):
        raise StageError(
            f"the model's inputs are {', '.join(names)}; given were {', '.join(sorted(inputs))}"
        )
    return {name: np.ascontiguousarray(inputs[name], dtype=np.int64) for name in names}
