"""The kinds of stages, a module each: what one does with its recipe. No imports here."""
