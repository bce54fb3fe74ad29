"""Sizes against the compressors' own one-shot functions, ratios against the document's figures."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from obert_sweeps.deploy.sizes import Sizes, compressed_metrics, dense_metrics, ratios, sizes_of


def sparse_bytes(zeros: float, count: int = 5_000_000) -> bytes:
    """Larger than one piece; zeros in runs of four."""
    generator = np.random.default_rng(0)
    values = generator.integers(-127, 128, (count // 4, 4), dtype=np.int8)
    values[generator.random(count // 4) < zeros] = 0
    return values.tobytes()


def test_sizes_are_those_of_gzip_and_zstd(tmp_path: Path) -> None:
    data = sparse_bytes(0.9)
    (tmp_path / "file").write_bytes(data)
    sizes = sizes_of(tmp_path / "file")
    assert sizes.raw == len(data)
    assert sizes.gzip == len(gzip.compress(data, 6))
    if shutil.which("zstd"):  # pragma: no branch
        packed = subprocess.run(
            ["zstd", "-3", "-c", str(tmp_path / "file")], capture_output=True, check=True
        ).stdout
        assert sizes.zstd == pytest.approx(len(packed), rel=0.02)


def test_more_zeros_weigh_less(tmp_path: Path) -> None:
    found = []
    for zeros in (0.0, 0.5, 0.95):
        (tmp_path / "file").write_bytes(sparse_bytes(zeros))
        found.append(sizes_of(tmp_path / "file").gzip)
    assert found == sorted(found, reverse=True)
    assert found[2] < 0.15 * found[0]


def test_like_is_divided_by_like_but_in_the_documents_counting() -> None:
    found = ratios(Sizes(raw=120, gzip=60, zstd=40), Sizes(raw=30, gzip=12, zstd=5))
    assert found == {"document": 10.0, "raw": 4.0, "gzip": 5.0, "zstd": 8.0}


def test_the_documents_counting_gives_the_documents_ratios() -> None:
    dense = Sizes(raw=1_300_000_000, gzip=1_180_000_000, zstd=1)
    large, mobile = Sizes(335_000_000, 38_200_000, 1), Sizes(15_000_000, 9_560_000, 1)
    assert round(ratios(dense, large)["document"]) == 34
    assert round(ratios(dense, mobile)["document"]) == 136
    assert ratios(dense, large)["gzip"] < ratios(dense, large)["document"]
    metrics = compressed_metrics(large, dense)
    assert metrics == {"file_mb": 38.2, "compression": pytest.approx(1300 / 38.2)}
    assert compressed_metrics(large, None) == {"file_mb": 38.2}
    assert dense_metrics(dense) == {"file_mb": 1300.0, "compression": 1.0}
