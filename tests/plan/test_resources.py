"""What a stage asks of the cluster where the request leaves it open."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from obert_sweeps.plan.resources import gpus_of


@pytest.mark.parametrize("there", [True, False])
def test_auto_is_a_gpu_where_this_machine_has_one(
    there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: there and str(path) == "/dev/nvidia0")
    assert gpus_of(SimpleNamespace(gpus_per_stage="auto")) == (1.0 if there else 0.0)
    assert gpus_of(SimpleNamespace(gpus_per_stage=0.5)) == 0.5
