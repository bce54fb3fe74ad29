"""Where a store's files lie: in a folder, or in a bucket."""

from __future__ import annotations

from .base import Place
from .folder import FolderPlace

__all__ = ["FolderPlace", "Place"]
