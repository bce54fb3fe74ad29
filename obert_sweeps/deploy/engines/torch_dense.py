"""PyTorch, on whatever device: the checkpoint as float32 (CPU) or 16 bits (GPU)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...model.base import quiet
from ...schema import StageError, first_line
from ..onnx_export import output_names
from .base import INPUTS, Arrays, Engine, Outcome, Watch, failures_told, ordered

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class TorchDense(Engine):
    """The checkpoint as it is: zeros and INT8 weights are float numbers like others.

    compiled: the encoder's layers are compiled, all by one graph, for each shape of inputs, and the
    whole pass is one CUDA graph, since at small batches launches take longer than what they launch.
    On a GPU alone: elsewhere the compiler would be asked for shape after shape, and gives up at
    the ninth.
    """

    name = "torch"

    def __init__(
        self,
        *,
        threads: int = 1,
        device: str = "cpu",
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        super().__init__(threads=threads)
        if precision not in DTYPES:
            raise StageError(f"precision {precision!r} is unknown. Choose {', '.join(DTYPES)}.")
        self.device, self.precision, self.compiled = torch.device(device), precision, compiled
        if compiled and self.device.type != "cuda":
            raise StageError(
                f"compiled: true makes a CUDA graph, which device {device} cannot run. Set"
                " compiled: false for this engine, or device: cuda."
            )
        self.reduced = precision != "fp32"

    @classmethod
    def missing(cls) -> str | None:
        return None

    @classmethod
    def version(cls) -> str:
        return str(torch.__version__)

    def load(self, folder: Path) -> None:
        self.model = self.prepare(checkpoint(folder)).eval()
        self.outputs = output_names(self.model)
        self.captured: CudaGraph | None = None
        if self.compiled:
            for layer in encoder_layers(self.model):
                layer.compile(dynamic=False, fullgraph=True)

    def prepare(self, model: Any) -> Any:
        return model.to(self.device, DTYPES[self.precision])

    def run(self, inputs: Arrays) -> Outcome:
        arrays = ordered(inputs, list(INPUTS))
        with failures_told(self.name, arrays):
            return self._run(arrays)

    @torch.inference_mode()
    def _run(self, arrays: Arrays) -> Outcome:
        given = {
            name: torch.from_numpy(array).to(self.device)
            for name, array in arrays.items()
            if name != "attention_mask" or not array.all()  # without one attention is faster
        }
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            forward = self._forward(given)
            self._wait()
            with Watch() as watch:
                outputs = forward(**given)
                self._wait()
        finally:
            torch.set_num_threads(threads)
        logits = {name: outputs[name].float().cpu().numpy() for name in self.outputs}
        return Outcome(logits, watch.seconds, watch.cpu_seconds)

    def _forward(self, given: dict[str, Tensor]) -> Callable[..., Any]:
        if not self.compiled:
            return self.model
        if self.captured is None or not self.captured.fits(given):
            self.captured = None  # its memory is free before the next takes some
            torch.compiler.reset()  # or shapes to come are not compiled when there were many
            try:
                self.captured = CudaGraph(self.model, given)
            except RuntimeError as error:  # the compiler's errors and CUDA's are such
                raise StageError(
                    f"{self.name} cannot be compiled into a CUDA graph here:"
                    f" {first_line(_first(error))}. Set compiled: false for this engine."
                ) from error
        return self.captured

    def describe(self) -> dict[str, Any]:
        gpu = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None
        return {
            "version": self.version(),
            "threads": self.threads,
            "device": gpu or "CPU",
            "flags": {"precision": self.precision, "compiled": self.compiled, "attention": "sdpa"},
            "file": "model.safetensors",
        }

    def close(self) -> None:
        self.model = self.captured = None

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class CudaGraph:
    """A model's pass at one shape, launched as one; it computes on copies of what it is given."""

    def __init__(self, model: nn.Module, example: dict[str, Tensor]) -> None:
        self.inputs = {name: tensor.clone() for name, tensor in example.items()}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # what is made at a first pass is not captured
            for _ in range(3):
                model(**self.inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.outputs = model(**self.inputs)

    def fits(self, given: dict[str, Tensor]) -> bool:
        return _shapes(given) == _shapes(self.inputs)

    def __call__(self, **given: Tensor) -> Any:
        for name, tensor in given.items():
            self.inputs[name].copy_(tensor)
        self.graph.replay()
        return self.outputs


def _first(error: BaseException) -> BaseException:
    """What went wrong first: the end of a capture that failed raises an error of its own."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def encoder_layers(model: nn.Module) -> nn.ModuleList:
    """The longest list of modules in the model, which are alike."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len)


def checkpoint(folder: Path) -> Any:
    """The model of a checkpoint folder, of the class that its config.json names, in float32."""
    import transformers

    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(folder)
            kind = getattr(transformers, (config.architectures or ["none"])[0], None)
            if kind is None:
                raise ValueError(f"config.json names no known architecture: {config.architectures}")
            return kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    except (OSError, ValueError) as error:
        raise StageError(
            f"torch cannot load the checkpoint in {folder}: {error}. Export the model again."
        ) from error
