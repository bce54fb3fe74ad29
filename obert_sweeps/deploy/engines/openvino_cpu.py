"""OpenVINO on the CPU."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .base import (
    OUTPUTS,
    Arrays,
    Engine,
    Outcome,
    ProductCounts,
    Watch,
    failures_told,
    onnx_file,
    ordered,
    unreadable,
)
from .onnx_runtime import INSTALL

PRODUCTS = {"FullyConnected", "MatMul", "ScaledDotProductAttention"}


class OpenVino(Engine):
    """`precision` is what float layers compute in: f32, or bf16, its own default on some CPUs."""

    name = "openvino"
    form = "qdq"

    def __init__(self, *, threads: int = 1, precision: str = "f32") -> None:
        super().__init__(threads=threads)
        self.reduced = precision != "f32"
        self.flags = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }

    @classmethod
    def missing(cls) -> str | None:
        return None if find_spec("openvino") else f"openvino is not installed. {INSTALL}"

    @classmethod
    def version(cls) -> str:
        import openvino

        return str(openvino.__version__)

    def load(self, folder: Path) -> None:
        import openvino

        self.file = onnx_file(folder, self.form)
        try:
            with signal_stack_kept():
                self.model = openvino.Core().compile_model(str(self.file), "CPU", self.flags)
        except RuntimeError as error:
            raise unreadable(self.file, self.name, error) from error
        self.request = self.model.create_infer_request()
        self.inputs = [port.any_name for port in self.model.inputs]
        # A port has several names, in no order; one of them is that of the ONNX file.
        named = [port.get_names() for port in self.model.outputs]
        ports = zip(named, self.model.outputs, strict=True)
        self.outputs = {n: port for names, port in ports for n in OUTPUTS if n in names}

    def run(self, inputs: Arrays) -> Outcome:
        feed = ordered(inputs, self.inputs)
        with failures_told(self.name, feed), Watch() as watch:
            found = self.request.infer(feed)
        logits = {name: found[port].copy() for name, port in self.outputs.items()}
        return Outcome(logits, watch.seconds, watch.cpu_seconds)

    def describe(self) -> dict[str, Any]:
        return {
            "version": self.version(),
            "threads": self.threads,
            "flags": self.flags,
            "file": self.file.name,
            "products": self.products().as_dict(),
        }

    def products(self) -> ProductCounts:
        """By the precision of each product's kernel in the compiled model."""
        precisions = []
        for node in self.model.get_runtime_model().get_ordered_ops():
            facts = node.get_rt_info()
            if _text(facts, "layerType") in PRODUCTS:
                precisions.append(_text(facts, "runtimePrecision"))
        integer = sum(precision in ("u8", "i8") for precision in precisions)
        return ProductCounts(integer=integer, floating=len(precisions) - integer)

    def close(self) -> None:
        self.request = self.model = None


def _text(facts: Any, key: str) -> str:
    value = facts[key] if key in facts else ""  # noqa: SIM401 - not a dict: it has no get
    return str(value.astype(str) if hasattr(value, "astype") else value)


class _Stack(ctypes.Structure):
    """Linux's stack_t."""

    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Leave this thread's alternate signal stack as it was.

    Compiling sets one of OpenVINO's own, which is freed in time: the next signal with a handler in
    Python, SIGTERM for one, would then end the process with a segmentation fault.
    """
    if sys.platform != "linux":
        yield
        return
    system, before = ctypes.CDLL(None), _Stack()
    system.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        system.sigaltstack(ctypes.byref(before), None)
