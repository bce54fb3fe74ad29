"""What every test needs: one thread a process, the project's root, the shared real data."""

from __future__ import annotations

import os

# Before torch, numpy and what starts them: two spinning OpenMP pools on two cores are many times
# slower than one thread each, and results are compared bit by bit.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["GOMP_SPINCOUNT"] = "0"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["WANDB_MODE"] = "offline"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "agg"
# The GPU's kernels run in Triton's interpreter where there is no GPU; it asks when it is imported.
if not os.path.exists("/dev/nvidiactl"):
    os.environ["TRITON_INTERPRET"] = "1"

import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def project_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real data and models, where they lie beside the project (marker `shared`)."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("no folder shared/ beside the project")
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Whatever a test before set; torch is not imported for it."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
