"""Results on disk or in a bucket, and who is working on what."""

from .lease import Held, Lease, LeaseLost, LeaseState
from .stage_folder import StageFolder
from .store import Store

__all__ = ["Held", "Lease", "LeaseLost", "LeaseState", "StageFolder", "Store"]
