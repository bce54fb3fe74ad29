"""obert-sweeps: does a pruning result hold? Paper cells as a DAG of resumable, tracked stages."""

__version__ = "0.1.0"
