"""The machine a stage runs on: set up for it, and described for its result."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers

from ..schema import Runtime, StageError

# 10^12 operations a second without sparsity, by vendor's data sheets: bf16 with float32 sums, and
# float32 without TensorFloat, which is how torch multiplies unless told otherwise. The first name
# all of whose words are in the device's counts.
_PEAKS = {
    "H200": {"bf16": 989.4, "fp32": 66.9},
    "GH200": {"bf16": 989.4, "fp32": 66.9},
    "H100 NVL": {"bf16": 835.0, "fp32": 60.0},
    "H100 PCIe": {"bf16": 756.0, "fp32": 51.0},
    "H100": {"bf16": 989.4, "fp32": 66.9},
    "A100": {"bf16": 312.0, "fp32": 19.5},
    "L40S": {"bf16": 362.0, "fp32": 91.6},
    "L4": {"bf16": 121.0, "fp32": 30.3},
}


def peak_flops(device: torch.device, precision: str) -> float | None:
    """What a device can do in a second at most; None where that is not known, as of CPUs."""
    if device.type != "cuda":
        return None
    words = set(re.split(r"[\s-]+", torch.cuda.get_device_name(device)))
    found = next((peaks for name, peaks in _PEAKS.items() if words.issuperset(name.split())), None)
    return None if found is None else 1e12 * found[precision]


def prepare_torch(how: Runtime) -> torch.device:
    """Set this process up for a stage: its threads, and on CPU deterministic algorithms."""
    device = torch.device(how.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise StageError(
            f"device {how.device} is asked for and torch sees no GPU. Use cluster.device=cpu"
        )
    torch.set_num_threads(how.threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true" if how.threads > 1 else "false")
    torch.use_deterministic_algorithms(device.type == "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs time, finds bugs of others
    return device


def environment(how: Runtime, device: torch.device, workers: int = 1) -> dict[str, Any]:
    """What a result may depend on beside its recipe."""
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    if "ray" in sys.modules:
        versions["ray"] = sys.modules["ray"].__version__
    return {
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        **versions,
        "host": platform.node(),
        "cpu": _cpu_model(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "device": how.device,
        "threads": how.threads,
        "workers": workers,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
