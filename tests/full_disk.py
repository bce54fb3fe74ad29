"""A disk that is really full, for tests: a small tmpfs. Skipped where none can be mounted."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def full_disk(size: int, *options: str) -> Iterator[Path]:
    """A folder with room for `size` bytes."""
    with tempfile.TemporaryDirectory(prefix="small-disk-") as folder:
        said = ",".join([f"size={size}", *options])
        mount = ["mount", "-t", "tmpfs", "-o", said, "tmpfs", folder]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("no file system may be mounted here")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
