"""No tracking: the store alone."""

from .base import Tracker

__all__ = ["NoTracker"]


class NoTracker(Tracker):
    """`tracker=none`."""
