from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from obert_sweeps.schema import StageError
from obert_sweeps.sparsity.mask import Masks


def layers() -> dict[str, nn.Linear]:
    torch.manual_seed(0)
    return {"one": nn.Linear(8, 3), "two": nn.Linear(4, 5)}


def half(model: dict[str, nn.Linear]) -> dict[str, torch.Tensor]:
    return {n: torch.arange(m.weight.numel()).view_as(m.weight) % 2 == 0 for n, m in model.items()}


def test_apply_zeroes_exactly_the_pruned_weights():
    model = layers()
    before = {n: m.weight.detach().clone() for n, m in model.items()}
    keep = half(model)
    masks = Masks(model, keep)
    masks.apply()
    for name, layer in model.items():
        assert torch.equal(layer.weight.detach() == 0, ~keep[name])
        assert torch.equal(layer.weight[keep[name]], before[name][keep[name]])
    masks.check()
    assert masks.sparsity() == 0.5 and masks.by_layer() == {"one": 0.5, "two": 0.5}


def test_zeros_survive_training():
    model = layers()
    masks = Masks(model, half(model))
    masks.apply()
    optimizer = torch.optim.AdamW([m.weight for m in model.values()], lr=0.1)
    for _ in range(3):
        sum(m.weight.sin().sum() for m in model.values()).backward()
        optimizer.step()
        with pytest.raises(StageError, match="layer one"):
            masks.check()
        masks.apply()
        masks.check()


def test_check_names_the_layer():
    model = layers()
    masks = Masks(model, half(model))
    masks.apply()
    with torch.no_grad():
        model["two"].weight[0, 1] = 1e-30
    with pytest.raises(StageError, match="1 pruned weights of layer two"):
        masks.check()


def test_dense_masks_touch_nothing():
    model = layers()
    before = model["one"].weight.detach().clone()
    masks = Masks(model)
    masks.apply()
    assert masks.is_dense and masks.sparsity() == 0.0
    assert torch.equal(model["one"].weight, before)


def test_from_zeros_reads_the_pattern_of_the_weights():
    model = layers()
    Masks(model, half(model)).apply()
    masks = Masks.from_zeros(model)
    assert not masks.is_dense
    for name, keep in half(model).items():
        assert torch.equal(masks.keep[name], keep)


def test_state_survives_a_safetensors_file(tmp_path):
    model = layers()
    masks = Masks(model, {n: k.T.contiguous().T for n, k in half(model).items()})
    save_file(masks.state_dict(), tmp_path / "masks.safetensors")
    other = Masks(model)
    other.load_state_dict(load_file(tmp_path / "masks.safetensors"))
    for name in model:
        assert torch.equal(other.keep[name], masks.keep[name])
    assert other.sparsity() == masks.sparsity()


def test_masks_of_another_model_are_refused():
    model = layers()
    with pytest.raises(StageError, match="differ: three"):
        Masks(model, {**half(model), "three": torch.ones(1, 1, dtype=torch.bool)})
    wrong = half(model)
    wrong["one"] = wrong["one"].T
    with pytest.raises(StageError, match="layer one"):
        Masks(model, wrong)
    wrong = {n: k.float() for n, k in half(model).items()}
    with pytest.raises(StageError, match="float32"):
        Masks(model, wrong)


def test_a_replaced_mask_is_the_one_applied():
    model = layers()
    masks = Masks(model, half(model))
    masks.apply()
    masks.replace({n: torch.zeros_like(k) for n, k in half(model).items()})
    masks.apply()
    assert all(not m.weight.any() for m in model.values()) and masks.sparsity() == 1.0


def test_masks_follow_a_change_of_type():
    model = layers()
    masks = Masks(model, half(model))
    masks.apply()
    for layer in model.values():
        layer.to(torch.float64)
        nn.init.ones_(layer.weight)
    masks.apply()
    masks.check()
    assert model["one"].weight.dtype == torch.float64


def test_masks_follow_a_change_of_device():
    model = layers()
    masks = Masks(model, half(model))
    for layer in model.values():
        layer.to("meta")
    assert all(k.device.type == "meta" for k in masks.keep.values())


def test_the_structure_of_a_mask_by_hand() -> None:
    layers = {"a": nn.Linear(8, 3)}
    keep = torch.tensor(
        [
            [1, 1, 1, 1, 1, 1, 0, 0],
            [0, 0, 0, 0, 1, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0, 0],
        ],
        dtype=torch.bool,
    )
    masks = Masks(layers, {"a": keep})
    assert masks.by_layer() == {"a": pytest.approx(17 / 24)}
    assert masks.structure() == {
        "a": {
            **{"weights": 24, "empty_outputs": 1, "empty_inputs": 2, "empty_blocks_of_4": 3},
            "share_2of4": round(5 / 6, 4),  # all but the first block, of which four are left
        }
    }
