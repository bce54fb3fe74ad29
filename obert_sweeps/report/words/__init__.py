"""Numbers and verdicts as people read them, the same in Markdown, in HTML and on the screen."""

from . import cells, claims, costs, inference, methods, neighbours, numbers, origin, verdicts

__all__ = [
    "cells",
    "claims",
    "costs",
    "inference",
    "methods",
    "neighbours",
    "numbers",
    "origin",
    "verdicts",
]
