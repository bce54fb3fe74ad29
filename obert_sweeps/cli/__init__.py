"""The door: one small file a verb."""
