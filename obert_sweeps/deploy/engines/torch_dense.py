"""PyTorch, on whatever device: the checkpoint as float32 (CPU) or 16 bits (GPU)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...model.base import quiet
from ...schema import StageError
from ..onnx_export import output_names
from .base import INPUTS, Arrays, Engine, Outcome, Watch, ordered

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class TorchDense(Engine):
    """The checkpoint as it is: zeros and INT8 weights are float numbers like others."""

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
        self.forward = torch.compile(self.model) if self.compiled else self.model

    def prepare(self, model: Any) -> Any:
        return model.to(self.device, DTYPES[self.precision])

    @torch.inference_mode()
    def run(self, inputs: Arrays) -> Outcome:
        given = {
            name: torch.from_numpy(array).to(self.device)
            for name, array in ordered(inputs, list(INPUTS)).items()
        }
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            self._wait()
            with Watch() as watch:
                outputs = self.forward(**given)
                self._wait()
        finally:
            torch.set_num_threads(threads)
        logits = {name: outputs[name].float().cpu().numpy() for name in self.outputs}
        return Outcome(logits, watch.seconds, watch.cpu_seconds)

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
        self.model = self.forward = None

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


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


def as_arrays(batch: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """A batch's model inputs as an engine takes them."""
    return {name: batch[name].cpu().numpy() for name in INPUTS}
