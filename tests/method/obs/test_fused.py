"""The GPU's kernels against dense float64 algebra: in Triton's interpreter, and on a GPU."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from dense_fisher import (
    DAMP,
    built,
    check_inverse,
    dense_blocks,
    gradients,
    relative_error,
    worst_error,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from obert_sweeps.method.obs import fisher
from obert_sweeps.method.obs.fisher import FisherInverse
from obert_sweeps.schema import StageError


@pytest.fixture(scope="module")
def kernels() -> Iterator[ModuleType]:
    """The kernels, interpreted, as what every FisherInverse here uses."""
    if sys.platform != "linux":
        pytest.importorskip("triton", reason="Triton is made for Linux")
    if torch.cuda.is_available():
        pytest.skip("compiled, the kernels do not take a CPU's memory: see the test on a GPU")
    with pytest.MonkeyPatch.context() as patch:
        fused = importlib.import_module("obert_sweeps.method.obs.fused")
        patch.setattr(fisher, "_kernels", lambda device, block_size: fused)
        yield fused


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize(
    ("kind", "m"),
    [("full", 64), ("full", 12), ("dead", 80), ("repeated", 80), ("low rank", 40)],
)
def test_blocks_equal_the_dense_inverse(kernels, kind, m, scale):
    grads = gradients(kind, m, 173, scale)
    inverse = built(grads, 50, m)
    check_inverse(inverse, grads, 1e-6, 1e-6)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    d=st.integers(1, 130),
    block=st.integers(1, 128),
    m=st.integers(1, 40),
    at_once=st.integers(1, 33),
    exponent=st.floats(-4, 0),
    seed=st.integers(0, 999),
)
@example(d=5, block=1, m=3, at_once=2, exponent=0.0, seed=0)
@example(d=130, block=64, m=20, at_once=20, exponent=0.0, seed=0)
@example(d=129, block=65, m=20, at_once=7, exponent=0.0, seed=0)
@example(d=130, block=128, m=40, at_once=16, exponent=-4.0, seed=0)
def test_any_size_any_number_at_once(kernels, d, block, m, at_once, exponent, seed):
    grads = gradients("full", m, d, 10.0**exponent, seed)
    got = built(grads, block, m, at_once).blocks().numpy()
    assert relative_error(got, dense_blocks(grads, block, DAMP, m)) < 1e-6


def test_a_part_of_a_layer_s_gradients_is_taken_where_it_stands(kernels):
    whole = gradients("full", 30, 90, 1.0)
    part = whole[:, 20:67]
    inverse = FisherInverse(47, 10, DAMP, 30)
    inverse.add(part[:11])
    inverse.add(part[11:].double())
    inverse.add(torch.zeros(3, 47))  # with which workers fill up
    expected = dense_blocks(part, 10, DAMP, 30)
    assert worst_error(inverse.blocks(), expected) < 1e-8


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("place", [3, 7, 9])  # before a block's cut, behind it, and its last
def test_gradients_that_are_not_finite_are_an_error(kernels, place, value):
    grads = torch.ones(4, 20)
    grads[2, 10 + place] = float(value)
    inverse = FisherInverse(20, 10, DAMP, 4)
    inverse.add(grads)
    with pytest.raises(StageError, match="not positive definite"):
        inverse.diag()


@pytest.mark.gpu
@pytest.mark.parametrize("card_has_them", [True, False])
@pytest.mark.parametrize("block", [1, 4, 32, 48, 50, 128])
def test_on_a_gpu_blocks_equal_the_dense_inverse(monkeypatch, block, card_has_them):
    if not card_has_them:
        monkeypatch.setattr(fisher, "_FUSED", {})
    d, m = 1030, 70
    grads = gradients("repeated", m, d, 1.0)
    inverse = FisherInverse(d, block, DAMP, m, "cuda")
    for part in grads.cuda().split(17):
        inverse.add(part)
    assert worst_error(inverse.blocks().cpu(), dense_blocks(grads, block, DAMP, m)) < 1e-5


COMPILE = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from obert_sweeps.method.obs import fused

card, block = int(sys.argv[1]), int(sys.argv[2])
numbers = {"grads": "*fp32", "row": "i64", "count": "i32", "weights": "i32", "values": "*fp64"}
pointers = {"values": "*fp64", "sound": "*i32", "numbers": "*fp64"}
for kernel, types, fixed in (
    (fused._add_products, numbers, fused.adding(block) | {"FETCH": True}),
    (fused._invert, pointers, fused.inverting(block)),
):
    signature = types | dict.fromkeys(fixed, "constexpr")
    source, target = ASTSource(kernel, signature, fixed), GPUTarget("cuda", card, 32)
    print(len(compile(source, target, fused.launching(block)).asm["cubin"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("card", "block"), [*((c, 50) for c in fisher._FUSED), *fisher._FUSED.items()]
)
def test_the_kernels_compile_for_each_card_without_one(tmp_path, card, block):
    """To the machine's code. Triton has refused what its interpreter runs."""
    pytest.importorskip("triton", reason="Triton is made for Linux")
    free = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    free["TRITON_CACHE_DIR"] = str(tmp_path)
    number = 10 * card[0] + card[1]
    command = [sys.executable, "-c", COMPILE, str(number), str(block)]
    done = subprocess.run(command, env=free, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.split()) == 2
