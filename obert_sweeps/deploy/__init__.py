"""Compound compression's end: export, sizes, engines and what they gain. No imports here."""
