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

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from obert_sweeps.request import read
from obert_sweeps.shipped import conf_dir

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


@pytest.fixture(autouse=True, scope="session")
def leaves_are_read_once() -> Iterator[None]:
    """Composing every leaf takes a second, and hundreds of tests ask for the same ones."""
    compose_them, known = read.every_leaf, dict[tuple[Any, ...], Any]()

    def every_leaf(search: list[str]) -> dict[str, dict[str, Any]]:
        if search:  # in folders that a test may write into
            return compose_them(search)
        files = (file.stat() for file in sorted(conf_dir().rglob("*.yaml")))
        key = (conf_dir(), *((file.st_ino, file.st_mtime_ns) for file in files))
        if key not in known:
            known[key] = compose_them(search)
        return copy.deepcopy(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "every_leaf", every_leaf)
        yield


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Whatever a test before set; torch is not imported for it."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
