"""What a model file weighs, raw and compressed, and the ratios to the dense one.

Table 3 divides the raw size of the dense model (1.30 GB) by the compressed size of the sparse one
(38.2 MB, gzip): 34x. Compressed by compressed is the smaller, fairer figure; both are given.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow

GZIP_LEVEL = 6  # gzip's own default
ZSTD_LEVEL = 3  # zstd's own default
_PIECE = 1 << 22


@dataclass
class Sizes:
    """Bytes of one file."""

    raw: int
    gzip: int
    zstd: int

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def sizes_of(file: Path) -> Sizes:
    """Sizes of a file as it is, after gzip -6 and after zstd -3."""
    gzip = zlib.compressobj(GZIP_LEVEL, wbits=31)  # 31: with gzip's header and checksum
    packed = sum(len(gzip.compress(piece)) for piece in _pieces(file)) + len(gzip.flush())
    codec = pyarrow.Codec("zstd", compression_level=ZSTD_LEVEL)
    with pyarrow.memory_map(str(file)) as whole:
        zstd = codec.compress(whole.read_buffer()).size
    return Sizes(file.stat().st_size, packed, zstd)


def ratios(dense: Sizes, compressed: Sizes) -> dict[str, float]:
    """`document`: dense raw by compressed gzip, as table 3 counts; then like by like."""
    return {
        "document": dense.raw / compressed.gzip,
        "raw": dense.raw / compressed.raw,
        "gzip": dense.gzip / compressed.gzip,
        "zstd": dense.zstd / compressed.zstd,
    }


def dense_metrics(dense: Sizes) -> dict[str, float]:
    """`file_mb` (10^6 bytes, of the raw file) and `compression` of a dense model, as in table 3."""
    return {"file_mb": dense.raw / 1e6, "compression": 1.0}


def compressed_metrics(compressed: Sizes, dense: Sizes | None) -> dict[str, float]:
    """The same of a compressed model: its file after gzip, against the raw dense one.

    Without a dense model to compare with there is no `compression`.
    """
    found = {"file_mb": compressed.gzip / 1e6}
    return found | ({"compression": ratios(dense, compressed)["document"]} if dense else {})


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while piece := stream.read(_PIECE):
            yield piece
