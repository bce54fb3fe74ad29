"""What a step may use: limits of control groups as files say them, and workers' agreement."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch
from thread_group import together

from obert_sweeps.method.obs import memory
from obert_sweeps.worker_group import ALONE

CPU = torch.device("cpu")


def group(folder: Path, names: tuple[str, str, str], limit: str, used: int, dropped: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {dropped}\nfile 9\n")


V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def test_the_tightest_limit_above_the_process_counts(tmp_path: Path) -> None:
    processes = tmp_path / "cgroup"
    processes.write_text("0::/jobs/mine\n")
    root = tmp_path / "fs"
    group(root / "jobs" / "mine", V2, "max", 700, 0)
    group(root / "jobs", V2, "1000", 700, 50)
    left = memory._left_in_control_groups(processes, root)
    assert min(left) == 350
    group(root / "jobs" / "mine", V2, "800", 700, 0)
    assert min(memory._left_in_control_groups(processes, root)) == 100


def test_version_1_of_control_groups(tmp_path: Path) -> None:
    processes = tmp_path / "cgroup"
    processes.write_text("9:name=systemd:/\n4:memory:/box/mine\n0::/\n")
    root = tmp_path / "fs"
    group(root / "memory" / "box" / "mine", V1, str(2**63 - 4096), 700, 0)
    group(root / "memory" / "box", V1, "5000", 4000, 1500)
    assert min(memory._left_in_control_groups(processes, root)) == 2500


def test_more_used_than_allowed_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/\n")
    group(tmp_path / "fs", V2, "1000", 1200, 0)
    assert min(memory._left_in_control_groups(tmp_path / "cgroup", tmp_path / "fs")) == 0


def test_no_control_groups_no_limit(tmp_path: Path) -> None:
    assert min(memory._left_in_control_groups(tmp_path / "none", tmp_path)) > 2**60
    (tmp_path / "cgroup").write_text("0::/other/namespace\n")
    assert min(memory._left_in_control_groups(tmp_path / "cgroup", tmp_path / "fs")) > 2**60


def test_free_memory_is_within_the_machine() -> None:
    assert 0 < memory.free(CPU) <= psutil.virtual_memory().total


def test_what_was_asked_for_is_taken_and_the_least_of_all_workers() -> None:
    assert memory.budget(12345, ALONE, CPU) == 12345
    assert together(lambda g: memory.budget(1000 + g.rank, g, CPU), 3) == [1000] * 3


def test_workers_of_one_machine_share_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free", lambda device: 3000)
    assert memory.budget(None, ALONE, CPU) == 2400
    assert together(lambda g: memory.budget(None, g, CPU), 3) == [800] * 3
    seen = iter((3000, 600, 900))  # as each of them looks
    monkeypatch.setattr(memory, "free", lambda device: next(seen))
    assert together(lambda g: memory.budget(None, g, CPU), 3) == [160] * 3
