"""DeepSparse, the document's engine, from an environment of its own (`make deepsparse`).

Its packages do not install beside current ONNX and NumPy. The licence (DeepSparse Community) allows
evaluation in development and testing only; whoever builds that environment accepts it. Its
analytics are switched off.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from ...schema import StageError
from . import deepsparse_server as server
from .base import (
    INPUTS,
    Arrays,
    Engine,
    EngineFailed,
    Outcome,
    batch_of,
    cause,
    failures_told,
    onnx_file,
    ordered,
)

LICENCE = "DeepSparse Community License: evaluation in development and testing only"
VARIABLE = "OBERT_DEEPSPARSE_PYTHON"  # the interpreter, where it is not in .venv-deepsparse


class DeepSparse(Engine):
    name = "deepsparse"
    form = "integer"
    fixed_shapes = True

    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str | None:
        if interpreter() is not None:
            return None
        named = os.environ.get(VARIABLE)
        absent = f"{VARIABLE} names {named}, and there is no such file; " if named else ""
        return f"{absent}it needs an environment of its own. make deepsparse ({LICENCE})"

    @classmethod
    def version(cls) -> str:
        """As its environment tells it. StageError if there is no DeepSparse in it."""
        question = "from importlib.metadata import version; print(version('deepsparse'))"
        command = [str(interpreter()), "-I", "-c", question]
        asked = subprocess.run(command, capture_output=True, text=True)
        if asked.returncode:
            raise StageError(
                f"there is no DeepSparse for {command[0]}. make deepsparse ({LICENCE})"
            )
        return asked.stdout.strip()

    def load(self, folder: Path) -> None:
        self.file = onnx_file(folder, self.form)
        self.chatter = TemporaryFile()  # noqa: SIM115 - closed with the engine
        self.process = subprocess.Popen(
            [str(interpreter()), "-I", server.__file__, str(self.file), str(self.threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.chatter,
            env={**os.environ, "NM_DISABLE_ANALYTICS": "1"},
        )
        self._answer("its start")

    def run(self, inputs: Arrays) -> Outcome:
        feed = ordered(inputs, list(INPUTS))
        with failures_told(self.name, feed):  # half an answer, too
            took, logits = self._ask("run", feed)
        return Outcome(logits, **took)

    def describe(self) -> dict[str, Any]:
        """`supported_share`: of the operators, those that its own runtime runs."""
        facts, _ = self._ask("describe", {})
        return {
            "version": facts.pop("version"),
            "threads": self.threads,
            "flags": {"num_cores": self.threads, "scheduler": "single_stream"},
            "file": self.file.name,
            "licence": LICENCE,
            **facts,
        }

    def close(self) -> None:
        if self.process is None:
            return
        try:
            self.process.communicate(timeout=10)  # closes its input, at whose end it ends
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        self.chatter.close()
        self.process = None

    def _ask(
        self, verb: str, arrays: dict[str, np.ndarray]
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        assert self.process is not None and self.process.stdin is not None
        with suppress(BrokenPipeError):  # its end is told by the answer
            server.send(self.process.stdin, {"verb": verb}, arrays)
        return self._answer(batch_of(arrays) if arrays else verb)

    def _answer(self, asked: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        assert self.process is not None and self.process.stdout is not None
        answer = server.receive(self.process.stdout)
        if answer is None:
            code = self.process.wait()
            raise EngineFailed(
                f"DeepSparse ended with code {code} on {self.file.name}: {self._last_words()}. If"
                " the file is whole (ONNX Runtime reads it), the engine does not take this graph."
            )
        if "error" in answer[0]:
            line = cause(RuntimeError(answer[0]["error"]))
            raise EngineFailed(f"{self.name} failed on {asked} ({self.file.name}): {line}")
        return answer

    def _last_words(self) -> str:
        self.chatter.seek(0)
        lines = self.chatter.read().decode(errors="replace").strip().splitlines()
        return " ".join(lines[-2:])[-300:] or "it said nothing"


def interpreter() -> Path | None:
    """The interpreter of DeepSparse's environment, if there is one."""
    named = os.environ.get(VARIABLE)
    roots = [Path(__file__).parents[3], Path(sys.prefix).parent]  # the project, or what .venv is in
    places = [root / ".venv-deepsparse" / "bin" / "python" for root in roots]
    found = (place for place in ([Path(named)] if named else places) if place.is_file())
    return next(found, None)
