"""One training stage: the loop, the optimiser step, and what is saved and restored."""
