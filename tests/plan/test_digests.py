"""Digests of input files: remembered, and never another content's."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from obert_sweeps.plan.inputs import Digests


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_other_content_of_the_same_size_and_time_has_another_digest(tmp_path: Path) -> None:
    """As rsync, cp -p or an archive leave it, which set the time of modification."""
    file = tmp_path / "train.parquet"
    file.write_bytes(b"one")
    stat = file.stat()
    assert Digests().of(file) == hashlib.sha256(b"one").hexdigest()
    file.write_bytes(b"two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_mtime_ns == stat.st_mtime_ns
    assert Digests().of(file) == hashlib.sha256(b"two").hexdigest()


def test_an_untouched_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "train.parquet"
    file.write_bytes(b"one")
    first = Digests().of(file)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    assert Digests().of(file) == first
