"""ONNX Runtime on the CPU: the engine the others' logits are compared with."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...schema import Interrupted
from .base import (
    Arrays,
    Engine,
    Outcome,
    ProductCounts,
    Watch,
    failures_told,
    onnx_file,
    ordered,
    unreadable,
)

INSTALL = "pip install -c constraints.txt -e '.[deploy]'"
INTEGER = {"MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul", "DynamicQuantizeMatMul"}
FLOATING = {"MatMul", "FusedMatMul", "Gemm", "FusedGemm", "Attention", "MultiHeadAttention"}


class OnnxRuntime(Engine):
    name = "onnxruntime"
    form = "qdq"

    @classmethod
    def missing(cls) -> str | None:
        if find_spec("onnxruntime") and find_spec("onnx"):
            return None
        return f"onnxruntime is not installed. {INSTALL}"

    @classmethod
    def version(cls) -> str:
        import onnxruntime

        return str(onnxruntime.__version__)

    def load(self, folder: Path) -> None:
        self.load_file(onnx_file(folder, self.form))

    def load_file(self, file: Path) -> None:
        """Load an ONNX file of whichever form. StageError if it cannot be read."""
        self.file = file
        self.session = self._session()
        self.inputs = [i.name for i in self.session.get_inputs()]
        self.outputs = [o.name for o in self.session.get_outputs()]

    def run(self, inputs: Arrays) -> Outcome:
        feed = ordered(inputs, self.inputs)
        with failures_told(self.name, feed), Watch() as watch:
            logits = self.session.run(None, feed)
        found = dict(zip(self.outputs, logits, strict=True))
        return Outcome(found, watch.seconds, watch.cpu_seconds)

    def describe(self) -> dict[str, Any]:
        return {
            "version": self.version(),
            "threads": self.threads,
            "flags": {"provider": "CPU", "intra_op": self.threads, "graph_optimization": "all"},
            "file": self.file.name,
            "products": self.products().as_dict(),
        }

    def products(self) -> ProductCounts:
        """Counted in the graph as ONNX Runtime has optimised it."""
        import onnx

        with TemporaryDirectory() as folder:
            optimised = Path(folder) / "optimised.onnx"
            self._session(optimised)
            graph = onnx.load(str(optimised)).graph
        kinds = [node.op_type for node in graph.node]
        return ProductCounts(
            integer=sum(kind in INTEGER for kind in kinds),
            floating=sum(kind in FLOATING for kind in kinds),
        )

    def _session(self, optimised: Path | None = None) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # it warns that an optimised graph fits this machine alone
        # Between runs its threads do not spin: another engine may be timed next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if optimised is not None:
            options.optimized_model_filepath = str(optimised)
        try:
            return onnxruntime.InferenceSession(
                str(self.file), options, providers=["CPUExecutionProvider"]
            )
        except Interrupted:
            raise
        except Exception as error:  # its own classes, without a common base
            raise unreadable(self.file, self.name, error) from error

    def close(self) -> None:
        self.session = None
