"""Encoders: loading, which of their weights are prunable, dropping layers. No imports here."""
