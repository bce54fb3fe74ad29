"""The report's numbers as small plots, and the stages on a line of time."""
