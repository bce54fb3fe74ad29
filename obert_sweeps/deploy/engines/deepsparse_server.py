"""DeepSparse in a process of its own: `python deepsparse_server.py`, in DeepSparse's environment.

It imports nothing of this project, whose packages are not there. A message is a line of JSON and
then the bytes of the arrays it announces; the answer is one too. The engine's own chatter goes
to stderr.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from typing import IO, Any

import numpy as np


def send(pipe: IO[bytes], message: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a message and its arrays."""
    announced = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
    pipe.write(json.dumps({**message, "arrays": announced}).encode() + b"\n")
    for array in arrays.values():
        pipe.write(array.tobytes())
    pipe.flush()


def receive(pipe: IO[bytes]) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """A message and its arrays; None at the end of the pipe."""
    line = pipe.readline()
    if not line:
        return None
    message, arrays = json.loads(line), {}
    for name, kind, shape in message.pop("arrays"):
        size = np.dtype(kind).itemsize * int(np.prod(shape))
        arrays[name] = np.frombuffer(pipe.read(size), dtype=kind).reshape(shape)
    return message, arrays


class Server:
    """Compiles the model for each shape that it is asked to run, and keeps what it compiled."""

    def __init__(self, file: str, cores: int) -> None:
        import deepsparse

        self.deepsparse = deepsparse
        self.file, self.cores = file, cores
        self.compiled: dict[tuple[int, ...], Any] = {}

    def engine(self, shape: tuple[int, ...]) -> Any:
        if shape not in self.compiled:
            with tempfile.TemporaryDirectory() as folder:
                # A copy: DeepSparse writes the shapes that it is given into the file itself.
                copy = shutil.copy(self.file, folder)
                self.compiled[shape] = self.deepsparse.Engine(
                    model=copy,
                    batch_size=shape[0],
                    num_cores=self.cores,
                    input_shapes=[list(shape)] * 3,
                )
        return self.compiled[shape]

    def run(self, inputs: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        engine = self.engine(next(iter(inputs.values())).shape)
        feed = [inputs[name] for name in engine.input_names]
        wall, cpu = time.perf_counter(), time.process_time()
        outputs = engine.run(feed)
        took = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        return took, dict(zip(engine.output_names, outputs))  # noqa: B905

    def describe(self) -> dict[str, Any]:
        facts = {"version": self.deepsparse.__version__, "cores": self.cores}
        for engine in self.compiled.values():
            facts["supported_share"] = engine.fraction_of_supported_ops
            facts["instructions"] = engine.cpu_avx_type + (" vnni" if engine.cpu_vnni else "")
        return facts


def main() -> None:
    os.environ["NM_DISABLE_ANALYTICS"] = "1"  # before deepsparse is imported
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    server = Server(sys.argv[1], int(sys.argv[2]))
    send(answers, {"ready": True}, {})
    while (request := receive(sys.stdin.buffer)) is not None:
        message, arrays = request
        try:
            if message["verb"] == "run":
                send(answers, *server.run(arrays))
            else:
                send(answers, server.describe(), {})
        except Exception as error:
            send(answers, {"error": f"{type(error).__name__}: {error}"}, {})


if __name__ == "__main__":
    main()
