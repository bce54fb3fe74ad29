"""Where a store's files lie: in a folder, or in a bucket."""

from __future__ import annotations

from pathlib import Path

from .base import Place
from .folder import FolderPlace

__all__ = ["FolderPlace", "Place", "place_at"]


def place_at(root: str) -> Place:
    """The place that `store=` names. RequestError if it is a URL that cannot be used here."""
    if root.startswith("file://"):
        root = root.removeprefix("file://")
    if "://" not in root:
        return FolderPlace(Path(root).expanduser().absolute())
    from .bucket import BucketPlace  # fsspec is imported only for those who need it

    return BucketPlace(root)
