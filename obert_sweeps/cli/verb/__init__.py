"""One file a verb, `main(loaded) -> exit code`; `<verb>_<part>` is a part of its verb alone."""
