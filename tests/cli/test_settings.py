"""What of a request reaches the stages as their runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from obert_sweeps.cli.settings import runtime_of
from obert_sweeps.request.read import read


def test_memory_and_scratch_reach_the_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runtime = runtime_of(read(["cluster.memory_gb=1.5", "cluster.scratch=fast"]))
    assert runtime.memory_gb == 1.5
    assert runtime.scratch == str(tmp_path / "fast")  # workers start elsewhere
    for cluster in ("local", "inline"):
        runtime = runtime_of(read([f"cluster={cluster}"]))
        assert runtime.memory_gb is None and runtime.scratch is None
