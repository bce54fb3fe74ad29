"""stdout and stderr whose reader may leave, or whose disk may be full, while a verb works."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class Patient:
    """A stream that never raises: once something could not be written, nothing is any more.

    So a verb does all its work, and its exit code says how that went. `fault` is what went wrong;
    that the reader has left is nothing wrong.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.fault: OSError | None = None

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self, error: OSError) -> None:
        if not isinstance(error, BrokenPipeError):
            self.fault = self.fault or error
        with suppress(OSError):  # what is still in the buffer goes there too, at the latest at exit
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def patient() -> Iterator[Patient]:
    """stdout and stderr are patient within, and all that was written is out afterwards."""
    before = sys.stdout, sys.stderr
    out, err = Patient(sys.stdout), Patient(sys.stderr)
    sys.stdout, sys.stderr = out, err
    try:
        yield out
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before
