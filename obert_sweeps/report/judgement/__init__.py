"""What the facts mean: verdicts, ranks, claims, and whether the comparison was fair."""
