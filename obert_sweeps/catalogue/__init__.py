"""The document as data: its 69 cells, its table layouts, its claims. Imports nothing heavy."""

from __future__ import annotations

from .cell import METRICS, Cell, Metric, primary_metric
from .claims import Claim, claims
from .layouts import layouts
from .seeds import published_deviation
from .tables import cells

__all__ = [
    "METRICS",
    "Cell",
    "Claim",
    "Metric",
    "cells",
    "claims",
    "layouts",
    "primary_metric",
    "published_deviation",
]
