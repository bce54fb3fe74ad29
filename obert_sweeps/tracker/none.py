"""No tracking: the store alone."""

from .base import Tracker


class NoTracker(Tracker):
    """`tracker=none`."""
