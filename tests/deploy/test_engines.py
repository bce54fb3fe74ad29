"""Every engine against torch's logits, and what each says of bad files, inputs and absence."""

from __future__ import annotations

import ctypes
import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from exported import SPAN, Exports, built, quantised
from hypothesis import given
from hypothesis import strategies as st
from tiny_bert import CONFIG, data_of

from obert_sweeps.deploy import engines
from obert_sweeps.deploy.agreement import FLOAT, difference
from obert_sweeps.deploy.engine_model import EngineModel
from obert_sweeps.deploy.engines import deepsparse_apart, deepsparse_server, onnx_runtime
from obert_sweeps.deploy.engines.base import Engine, EngineFailed, ProductCounts
from obert_sweeps.deploy.engines.deepsparse_apart import DeepSparse
from obert_sweeps.deploy.engines.onnx_runtime import OnnxRuntime
from obert_sweeps.deploy.engines.openvino_cpu import OpenVino
from obert_sweeps.deploy.engines.torch_dense import TorchDense
from obert_sweeps.schema import Interrupted, StageError
from obert_sweeps.train.evaluate import evaluate
from obert_sweeps.train.forward import Setup

ON_CPU = [OnnxRuntime, OpenVino, DeepSparse, TorchDense]
OF_FILES = ON_CPU[:3]


def loaded(kind: type[Engine], folder: Path) -> Engine:
    if (mend := kind.missing()) is not None:
        pytest.skip(f"{kind.name}: {mend}")
    engine = kind()
    engine.load(folder)
    return engine


@pytest.mark.parametrize("kind", ON_CPU)
def test_a_dense_model_gives_torchs_logits(exports: Exports, kind: type[Engine]) -> None:
    before = (exports.dense / "model.onnx").read_bytes()
    engine = loaded(kind, exports.dense)
    try:
        for rows in (8, 3):
            batch = {name: array[:rows] for name, array in exports.batch.items()}
            outcome = engine.run(batch)
            expected = {name: array[:rows] for name, array in exports.logits["dense"].items()}
            assert difference(outcome.logits, expected, batch["attention_mask"]) < FLOAT
            assert set(outcome.logits) == {"start_logits", "end_logits"}
            assert 0 < outcome.seconds < 60 and 0 < outcome.cpu_seconds < 60
        facts = engine.describe()
        assert facts["version"] and facts["threads"] == 1 and facts["flags"]
        assert (exports.dense / "model.onnx").read_bytes() == before  # DeepSparse would write to it
    finally:
        engine.close()


@pytest.mark.parametrize("kind", OF_FILES)
def test_a_quantised_model_gives_torchs_logits(exports: Exports, kind: type[Engine]) -> None:
    engine = loaded(kind, exports.compressed)
    try:
        found = engine.run(exports.batch).logits
    finally:
        engine.close()
    mask = exports.batch["attention_mask"]
    # Far nearer to torch's INT8 than to the model without rounded activations.
    assert difference(found, exports.logits["compressed"], mask) < 0.02


@pytest.mark.parametrize("kind", [OnnxRuntime, OpenVino])
def test_the_products_of_the_quantised_model_run_in_integers(
    exports: Exports, kind: type[Engine]
) -> None:
    for folder, share in ((exports.dense, 0.0), (exports.compressed, 1.0)):
        engine = loaded(kind, folder)
        products = engine.describe()["products"]
        engine.close()
        assert products["integer"] + products["floating"] >= 13  # 2 x 6 encoder layers, one head
        assert products["share"] == share
    assert ProductCounts(3, 1).share == 0.75


@pytest.mark.parametrize("kind", OF_FILES)
def test_a_truncated_file_is_named(exports: Exports, kind: type[Engine], tmp_path: Path) -> None:
    whole = (exports.dense / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(whole[: len(whole) // 2])
    says = r"(?s)model\.onnx.*(export the model again|ONNX Runtime)|failed on .*\(model\.onnx\)"
    with pytest.raises(StageError, match=says):
        engine = loaded(kind, tmp_path)
        engine.run(exports.batch)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no ONNX model in"):
        loaded(OnnxRuntime, tmp_path)
    with pytest.raises(StageError, match="cannot load the checkpoint in"):
        loaded(TorchDense, tmp_path)


@pytest.mark.parametrize("kind", ON_CPU)
def test_a_wrong_input_name_is_refused(exports: Exports, kind: type[Engine]) -> None:
    engine = loaded(kind, exports.dense)
    wrong = {("ids" if name == "input_ids" else name): a for name, a in exports.batch.items()}
    with pytest.raises(StageError, match=r"inputs are input_ids, .*; given were .*ids"):
        engine.run(wrong)
    engine.close()


@pytest.mark.parametrize("kind", [OnnxRuntime, TorchDense])
def test_a_batch_that_an_engine_fails_on_is_named(exports: Exports, kind: type[Engine]) -> None:
    """Inputs that do not fit each other: each library raises an error of its own."""
    engine = loaded(kind, exports.dense)
    uneven = {name: np.ones((2, 7), dtype=np.int64) for name in exports.batch}
    uneven["token_type_ids"] = uneven["token_type_ids"][:, :5]
    with pytest.raises(EngineFailed, match=rf"^{kind.name} failed on a batch of 2 x 7: [^\n]+$"):
        engine.run(uneven)
    assert engine.run(exports.batch).logits  # and takes the next
    engine.close()


def test_what_openvino_says_is_told_without_the_places_it_says_it_from(exports: Exports) -> None:
    def fail(feed: Any) -> None:
        raise RuntimeError("Exception from src/a.cpp:1:\nException from src/b.cpp:2:\nno memory\n")

    engine = loaded(OpenVino, exports.dense)
    engine.request = SimpleNamespace(infer=fail)  # type: ignore[attr-defined]
    with pytest.raises(EngineFailed, match=r"^openvino failed on a batch of \d+ x \d+: no memory$"):
        engine.run(exports.batch)
    engine.close()


def test_a_signal_during_a_batch_is_no_failure_of_the_engine(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Interrupted(15)

    engine = loaded(OnnxRuntime, exports.dense)
    monkeypatch.setattr(engine, "session", SimpleNamespace(run=stopped))
    with pytest.raises(Interrupted):
        engine.run(exports.batch)
    monkeypatch.setattr("onnxruntime.InferenceSession", stopped)
    with pytest.raises(Interrupted):
        engine.load(exports.dense)


def test_a_missing_engine_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_runtime, "find_spec", lambda name: None)
    monkeypatch.setattr(deepsparse_apart, "interpreter", lambda: None)
    with pytest.raises(StageError, match=r"onnxruntime is missing: .*pip install .*deploy"):
        OnnxRuntime()
    with pytest.raises(StageError, match=r"deepsparse is missing: .*make deepsparse.*evaluation"):
        DeepSparse()


def test_a_named_interpreter_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(deepsparse_apart.VARIABLE, "/nowhere/python")
    with pytest.raises(StageError, match=r"names /nowhere/python, and there is no such file"):
        DeepSparse()


@pytest.mark.parametrize("kind", OF_FILES)
def test_evaluation_over_an_engine_is_that_of_torch(exports: Exports, kind: type[Engine]) -> None:
    """Rows of all lengths, padded and cut as evaluation and the engine like it."""
    engine = loaded(kind, exports.dense)
    data, cpu = data_of(SPAN), Setup(torch.device("cpu"))
    model = EngineModel(engine, CONFIG["max_position_embeddings"])
    found = evaluate(model, data, cpu)
    engine.close()
    expected = evaluate(built(), data, cpu)
    assert found["accuracy"] == pytest.approx(expected["accuracy"], rel=1e-4)


class Fixed(TorchDense):
    """An engine of fixed shapes that remembers them."""

    fixed_shapes = True

    def run(self, inputs: Any) -> Any:
        self.shapes = {*getattr(self, "shapes", ()), inputs["input_ids"].shape}
        return super().run(inputs)


def test_an_engine_of_fixed_shapes_meets_few(exports: Exports) -> None:
    engine = loaded(Fixed, exports.dense)
    found = evaluate(EngineModel(engine, 24), data_of(SPAN), Setup(torch.device("cpu")))
    expected = evaluate(built(), data_of(SPAN), Setup(torch.device("cpu")))
    assert found["accuracy"] == pytest.approx(expected["accuracy"], rel=1e-4)
    assert engine.shapes == {(8, 24)}


def test_the_torch_engine_runs_the_weights_that_int8_holds(exports: Exports) -> None:
    engine = loaded(TorchDense, exports.compressed)
    apart = difference(
        engine.run(exports.batch).logits,
        exports.logits["compressed"],
        exports.batch["attention_mask"],
    )
    assert 0 < apart < 0.2  # activations are not rounded
    with pytest.raises(StageError, match="precision 'int4' is unknown"):
        TorchDense(precision="int4")


@given(
    shapes=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5)), max_size=3),
    kind=st.sampled_from(["<i8", "<f4", "|u1"]),
    text=st.text(max_size=20),
)
def test_messages_cross_a_pipe_whole(shapes: list[Any], kind: str, text: str) -> None:
    generator = np.random.default_rng(0)
    arrays = {f"a{i}": generator.integers(0, 99, s).astype(kind) for i, s in enumerate(shapes)}
    pipe = io.BytesIO()
    deepsparse_server.send(pipe, {"verb": text}, arrays)
    deepsparse_server.send(pipe, {"verb": "next"}, {})
    pipe.seek(0)
    message, found = deepsparse_server.receive(pipe)  # type: ignore[misc]
    assert message == {"verb": text} and list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)
    assert deepsparse_server.receive(pipe) == ({"verb": "next"}, {})
    assert deepsparse_server.receive(pipe) is None


def test_a_deepsparse_that_dies_is_told_with_its_last_words(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 'illegal graph' >&2\nexit 7\n")
    fake.chmod(0o755)
    monkeypatch.setenv(deepsparse_apart.VARIABLE, str(fake))
    engine = DeepSparse()
    with pytest.raises(StageError, match=r"ended with code 7 on model\.onnx: illegal graph"):
        engine.load(exports.dense)
    engine.close()


STAND_IN = '''
import sys, types
import numpy as np
class Engine:
    """A stand-in: names DeepSparse's inputs and sums them; refuses batches of one."""
    input_names = ["input_ids", "attention_mask", "token_type_ids"]
    output_names = ["logits"]
    fraction_of_supported_ops, cpu_avx_type, cpu_vnni = 0.5, "avx512", True
    def __init__(self, model, batch_size, num_cores, input_shapes):
        if batch_size == 1:
            raise ValueError("no batches of one")
        print("chatter on stdout")
        open(model, "ab").write(b"as DeepSparse does")
        self.shape = input_shapes[0]
    def run(self, inputs):
        assert list(inputs[0].shape) == self.shape
        return [sum(a.astype(np.float32) for a in inputs)]
sys.modules["deepsparse"] = types.SimpleNamespace(Engine=Engine, __version__="0")
import runpy
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
'''


def test_the_server_speaks_to_the_engine_as_deepsparse_wants(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a child as in earnest, with a stand-in for the package that is not installed here."""
    (tmp_path / "serve.py").write_text(STAND_IN)
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} {tmp_path}/serve.py "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setenv(deepsparse_apart.VARIABLE, str(fake))
    before = (exports.dense / "model.onnx").read_bytes()
    engine = DeepSparse(threads=1)
    engine.load(exports.dense)
    expected = sum(array.astype(np.float32) for array in exports.batch.values())
    assert np.array_equal(engine.run(exports.batch).logits["logits"], expected)
    one = {name: array[:1] for name, array in exports.batch.items()}
    says = rf"on a batch of 1 x {one['input_ids'].shape[1]} \(model\.onnx\): .*no batches of one$"
    with pytest.raises(EngineFailed, match=says):  # the file is whole, and not said to be damaged
        engine.run(one)
    assert (exports.dense / "model.onnx").read_bytes() == before
    facts = engine.describe()
    assert facts["supported_share"] == 0.5 and "evaluation" in facts["licence"]
    engine.close()
    assert engine.process is None


def test_engine_files_shadow_no_package() -> None:
    """DeepSparse's server runs as a script: its folder must not hide the packages it imports."""
    names = {file.stem for file in Path(engines.__file__).parent.glob("*.py")}
    assert not names & {"deepsparse", "onnx", "onnxruntime", "openvino", "numpy", "torch", "json"}


def test_a_quantised_model_is_not_its_dense_one(exports: Exports) -> None:
    """The comparisons above can fail: the two models' logits are far apart."""
    mask = exports.batch["attention_mask"]
    assert difference(exports.logits["compressed"], exports.logits["dense"], mask) > 0.3
    dense = quantised(built())
    with torch.no_grad():
        outputs = dense(**{name: torch.from_numpy(a) for name, a in exports.batch.items()})
    rounded = {name: outputs[name].numpy() for name in exports.logits["dense"]}
    assert 0.005 < difference(rounded, exports.logits["dense"], mask) < 0.2


def test_openvino_leaves_the_signal_stack_of_its_thread_alone(exports: Exports) -> None:
    """Its own would be freed, and a signal to a stage that had used it a segmentation fault."""

    class Stack(ctypes.Structure):
        _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

    def now() -> tuple[Any, ...]:
        stack = Stack()
        ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
        return stack.start, stack.flags, stack.size

    before = now()
    loaded(OpenVino, exports.dense).run(exports.batch)
    assert now() == before
