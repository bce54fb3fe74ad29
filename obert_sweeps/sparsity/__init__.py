"""What is sparse: patterns, masks, and the schedule that leads there.

Nothing is imported here: `sparsity.schedule` is used where torch is not loaded.
"""
