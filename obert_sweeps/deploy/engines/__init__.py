"""Inference engines behind one protocol: load, run, describe. No imports here."""
