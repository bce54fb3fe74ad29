"""Rates of training, by hand."""

from __future__ import annotations

import pytest
import torch
from tiny_bert import Toy, encoder, model_of

from obert_sweeps.train import machine
from obert_sweeps.train.cost import Spent, Work, rates, work_of
from obert_sweeps.train.forward import Setup
from obert_sweeps.worker_group import WorkerGroup

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SPENT = Spent(training=4.0, rows=80, tokens=1200, cells=1600)


class Four(WorkerGroup):
    size = 4


def test_useful_operations_a_second_and_their_share_of_the_peak() -> None:
    plain = {"samples_per_second": 20.0, "tokens_per_second": 300.0, "padding_share": 0.25}
    assert rates(SPENT) == plain
    assert rates(SPENT, Work(2e9)) == {**plain, "tflops": 0.6}
    assert rates(SPENT, Work(2e9, peak=2.4e12)) == {**plain, "tflops": 0.6, "mfu": 0.25}
    assert rates(Spent(), Work(2e9)) == {}


def test_a_token_takes_six_operations_for_each_weight_of_a_linear_layer() -> None:
    task = Toy()
    model = model_of(task)
    prunable = sum(layer.weight.numel() for layer in encoder().prunable(model).values())
    assert work_of(model, Setup(CPU)) == Work(6.0 * prunable)
    language = model_of(Toy(head="mlm"))
    decoder = language.config.vocab_size * language.config.hidden_size
    assert work_of(language, Setup(CPU)) == Work(6.0 * (prunable + decoder))


def test_peaks_are_those_of_the_card_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    def peak(name: str, precision: str) -> float | None:
        monkeypatch.setattr(machine.torch.cuda, "get_device_name", lambda device: name)
        return machine.peak_flops(GPU, precision)

    assert peak("NVIDIA H200", "bf16") == peak("NVIDIA H100 80GB HBM3", "bf16") == 989.4e12
    assert peak("NVIDIA H100 PCIe", "bf16") == 756e12
    assert peak("NVIDIA A100-SXM4-80GB", "fp32") == 19.5e12
    assert peak("NVIDIA A100 80GB PCIe", "bf16") == peak("A100-PCIE-40GB", "bf16") == 312e12
    assert peak("NVIDIA H100 NVL", "bf16") == 835e12 and peak("NVIDIA H100 NVL", "fp32") == 60e12
    assert peak("NVIDIA GH200 480GB", "bf16") == 989.4e12
    assert peak("NVIDIA GH200 480GB", "fp32") == pytest.approx(66.9e12)
    assert peak("NVIDIA L40S", "bf16") == 362e12 and peak("NVIDIA L4", "bf16") == 121e12
    assert peak("NVIDIA L40", "bf16") is None
    assert peak("Some Other Card", "bf16") is None
    assert machine.peak_flops(CPU, "fp32") is None
    peak("NVIDIA A100", "bf16")
    assert work_of(model_of(Toy()), Setup(GPU, "bf16", Four())).peak == 4 * 312e12
