"""2:4 weights found, and on a GPU run to the same logits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.sparse import SparseSemiStructuredTensor, SparseSemiStructuredTensorCUSPARSELT

from obert_sweeps.deploy.engines import torch_dense
from obert_sweeps.deploy.engines.torch_2of4 import Torch2of4, sparsify, two_of_four
from obert_sweeps.deploy.engines.torch_dense import TorchDense
from obert_sweeps.model.bert import Bert
from obert_sweeps.schema import StageError

SIZES = {
    "vocab_size": 40,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 256,
    "max_position_embeddings": 64,
}


def prune_2_of_4(layer: nn.Linear) -> None:
    groups = layer.weight.data.view(-1, 4)
    groups.scatter_(1, groups.abs().argsort(dim=1)[:, :2], 0.0)


def test_layers_with_two_zeros_in_every_four_are_found() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(16, 8) for _ in range(4)), nn.Linear(6, 2))
    prune_2_of_4(model[0])
    prune_2_of_4(model[2])
    model[2].weight.data[0, :4] = 0.0  # more zeros are well
    model[3].weight.data.zero_()
    model[1].weight.data.view(-1, 4)[:, :2] = 0.0
    model[1].weight.data[3, 0] = 1.0  # one group of three
    assert list(two_of_four(model)) == ["0", "2"]
    with pytest.raises(StageError, match="pruned with pattern 2of4"):
        two_of_four(nn.Sequential(nn.Linear(16, 8)))


def test_without_such_a_gpu_it_says_what_it_needs() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(StageError, match=r"torch-2of4 is missing: .*capability >= 8\.0.*sees none"):
        Torch2of4()


def test_it_is_compared_with_dense_weights_on_the_same_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Torch2of4, "missing", classmethod(lambda cls: None))
    dense = Torch2of4(threads=3, device="cuda:1", precision="bf16", compiled=False).beside()
    assert type(dense) is TorchDense
    assert (dense.device, dense.precision) == (torch.device("cuda:1"), "bf16")
    assert (dense.compiled, dense.threads, dense.reduced) == (False, 3, True)


def test_other_engines_are_compared_with_one_set_as_they_are() -> None:
    ours = TorchDense(threads=3, device="cuda:1", precision="bf16", compiled=True)
    dense = ours.beside()
    assert dense is not ours and type(dense) is TorchDense
    assert (dense.device, dense.precision) == (torch.device("cuda:1"), "bf16")
    assert (dense.compiled, dense.threads, dense.reduced) == (True, 3, True)


@pytest.mark.parametrize("kind", [TorchDense, Torch2of4])
def test_compiled_is_refused_where_there_is_no_gpu_to_run_it(
    monkeypatch: pytest.MonkeyPatch, kind: type[TorchDense]
) -> None:
    monkeypatch.setattr(Torch2of4, "missing", classmethod(lambda cls: None))
    with pytest.raises(StageError, match=r"which device cpu cannot run\. Set compiled: false"):
        kind(device="cpu", precision="bf16", compiled=True)
    assert not kind(device="cpu", precision="bf16", compiled=False).compiled
    assert kind(device="cuda", precision="bf16", compiled=True).compiled


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_sparse_kernels_give_the_dense_kernels_logits(tmp_path: Path, compiled: bool) -> None:
    if (mend := Torch2of4.missing()) is not None:
        pytest.skip(mend)
    torch.manual_seed(0)
    leaf = Bert(name="tiny", from_config=True, config=SIZES)
    model = leaf.build("span", 2)
    layers = leaf.prunable(model)
    for layer in layers.values():
        prune_2_of_4(layer)
    model.save_pretrained(tmp_path)
    ids = torch.randint(0, 40, (8, 32)).numpy()
    batch = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    dense = TorchDense(device="cuda", precision="fp16", compiled=compiled)
    sparse = Torch2of4(compiled=compiled)
    found = []
    for engine in (dense, sparse):
        engine.load(tmp_path)
        found.append(engine.run(batch).logits["start_logits"])
    assert sparse.describe()["sparse_layers"] == len(layers)
    torch.testing.assert_close(*map(torch.from_numpy, found), rtol=2e-2, atol=2e-2)


@pytest.fixture
def cusparselt_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """cuSPARSELt's two calls, with dense products: what it takes and gives, without its library."""

    def compress(weight: torch.Tensor) -> torch.Tensor:
        """Half the numbers, and two bits for the place of each."""
        groups = weight.view(len(weight), -1, 4)
        places = groups.abs().argsort(dim=-1, descending=True)[..., :2]
        codes = (places[..., 0] + 4 * places[..., 1]).view(len(weight), -1, 4)
        codes = (codes << torch.tensor([0, 4, 8, 12])).sum(-1).to(torch.uint16)
        return torch.cat([groups.gather(-1, places).flatten(1), codes.view(weight.dtype)], dim=1)

    def product(packed, right, bias=None, alpha=None, out_dtype=None, transpose_result=False, *_):
        assert right.shape[1] % 8 == 0 and right.t().is_contiguous() and not transpose_result
        kept, codes = packed.split([len(right) // 2, len(right) // 16], dim=1)
        codes = codes.contiguous().view(torch.uint16).long()
        codes = (codes[..., None] >> torch.tensor([0, 4, 8, 12])) & 15
        places = torch.stack([codes & 3, codes >> 2], dim=-1).view(len(packed), -1, 2)
        weight = torch.zeros(len(packed), len(right) // 4, 4, dtype=packed.dtype)
        weight = weight.scatter(-1, places, kept.reshape(places.shape)).flatten(1)
        return (weight @ right + (0 if bias is None else bias[:, None])).contiguous()

    monkeypatch.setattr(SparseSemiStructuredTensor, "_FORCE_CUTLASS", False)
    monkeypatch.setattr(
        SparseSemiStructuredTensorCUSPARSELT,
        "_validate_device_dim_dtype_shape",
        lambda weight: None,
    )
    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("_cslt_compress", compress, "CPU")
        library.impl("_cslt_sparse_mm", product, "CPU")
        yield


def test_a_layer_that_no_kernel_takes_is_named() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 12))
    prune_2_of_4(model[0])
    with pytest.raises(StageError, match=r"takes the layer 0: .*original_tensor.*the engine torch"):
        sparsify(model)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("shape", [(3, 5), (2, 8)])  # tokens that have to be padded, and not
def test_packed_layers_give_what_dense_ones_do(cusparselt_on_a_cpu, shape, compiled) -> None:
    torch.manual_seed(0)
    leaf = Bert(name="tiny", from_config=True, config=SIZES)
    model = leaf.build("span", 2).eval().to(torch.bfloat16)
    layers = leaf.prunable(model)
    for layer in layers.values():
        prune_2_of_4(layer)
    ids = torch.randint(0, 40, shape)
    with torch.inference_mode():
        expected = model(input_ids=ids).start_logits
        assert sparsify(model) == list(layers)
        if compiled:
            for layer in torch_dense.encoder_layers(model):
                layer.compile(dynamic=False, fullgraph=True, backend="aot_eager")
        found = model(input_ids=ids).start_logits
    assert not torch.equal(found, torch.zeros_like(found))
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


def test_while_a_graph_is_captured_layers_get_the_mask_they_were_compiled_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """transformers before 5.18 made one of ones then, which was compiled during the capture."""
    torch.manual_seed(0)
    Bert(name="tiny", from_config=True, config=SIZES).build("span", 2).save_pretrained(tmp_path)
    engine = TorchDense()
    engine.load(tmp_path)
    masks = []
    engine.model.bert.encoder.layer[0].register_forward_pre_hook(
        lambda layer, args, kwargs: masks.append([*args[1:], *kwargs.values()]), with_kwargs=True
    )
    ids = torch.randint(0, 40, (2, 8)).numpy()
    whole = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    padded = {**whole, "attention_mask": (torch.arange(8) < 6).long().expand(2, 8).numpy()}
    before = [engine.run(batch).logits["start_logits"] for batch in (whole, padded)]
    monkeypatch.setattr("transformers.utils.import_utils.is_cuda_stream_capturing", lambda: True)
    during = [engine.run(batch).logits["start_logits"] for batch in (whole, padded)]
    kinds = [[isinstance(value, torch.Tensor) for value in given] for given in masks]
    assert kinds[0] == kinds[2] and not any(kinds[2])
    assert kinds[1] == kinds[3] and any(kinds[3])
    np.testing.assert_array_equal(before, during)


def test_a_model_that_cannot_be_captured_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        try:
            raise RuntimeError("operation not permitted\nmore")
        finally:
            raise RuntimeError("a previous error during capture")  # as torch does

    monkeypatch.setattr(torch_dense, "CudaGraph", refuse)
    engine = TorchDense(device="cuda", compiled=True)
    engine.model, engine.captured = nn.Linear(2, 2), None
    with pytest.raises(StageError, match=r"here: operation not permitted\. Set compiled: false"):
        engine._forward({"input_ids": torch.zeros(1, 2)})
