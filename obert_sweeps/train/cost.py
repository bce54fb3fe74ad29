"""What a stage has cost, and at what rate it trains."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .forward import Setup
from .machine import peak_flops


@dataclass
class Spent:
    """What the stage has cost so far, over all attempts. Times in seconds.

    `tokens` are real ones, `cells` count padding too; both and `rows` are of training, whose time
    is `training`, while `wall` and `cpu` are of everything.
    """

    wall: float = 0.0
    cpu: float = 0.0
    training: float = 0.0
    rows: int = 0
    tokens: int = 0
    cells: int = 0


def read_clocks() -> tuple[float, float]:
    """Wall time, and CPU time of this process and its ended children, in seconds from whenever."""
    past = os.times()
    children = past.children_user + past.children_system
    return time.monotonic(), time.process_time() + children


def spent_since(clocks: tuple[float, float]) -> Spent:
    """What was spent since `read_clocks` gave these."""
    wall, cpu = read_clocks()
    return Spent(wall=wall - clocks[0], cpu=cpu - clocks[1])


def cost(spent: Spent, device: torch.device, workers: int = 1) -> dict[str, float]:
    """What the stage has cost over all attempts, in seconds.

    CPU time is what was measured at one worker, times the workers: all do the same work.
    """
    return {
        "seconds": round(spent.wall, 3),
        "cpu_seconds": round(workers * spent.cpu, 3),
        "gpu_seconds": round(workers * spent.wall, 3) if device.type == "cuda" else 0.0,
    }


@dataclass(frozen=True)
class Work:
    """What training on a token takes: 6 operations for each weight of the encoder's linear layers.

    Twice that of a forward pass's 2 goes back (Kaplan et al. 2020, 2.1). Not counted: attention's
    own products, padding, a teacher. `peak`: operations a second that the devices of all workers
    can do in this precision, where that is known.
    """

    flops_a_token: float
    peak: float | None = None


def work_of(model: Any, setup: Setup) -> Work:
    """What a token takes: the encoder's linear layers and, of a language model, its decoder."""
    layers = [part for part in model.base_model.encoder.modules() if isinstance(part, nn.Linear)]
    decoder = model.get_output_embeddings()
    weights = [layer.weight.numel() for layer in (*layers, *([] if decoder is None else [decoder]))]
    peak = peak_flops(setup.device, setup.precision)
    return Work(6.0 * sum(weights), peak and peak * setup.group.size)


def rates(spent: Spent, work: Work | None = None) -> dict[str, float]:
    """Training rates: per second of training, without evaluations.

    With `work` also `tflops`, the useful operations a second (10^12), and where the peak is known
    `mfu`, their share of it: model FLOP utilisation.
    """
    if not spent.rows:
        return {}
    found = {
        "samples_per_second": round(spent.rows / spent.training, 2),
        "tokens_per_second": round(spent.tokens / spent.training, 1),
        "padding_share": round(1 - spent.tokens / spent.cells, 4),
    }
    if work is not None:
        done = work.flops_a_token * spent.tokens / spent.training
        found["tflops"] = float(f"{done / 1e12:.4g}")
        if work.peak:
            found["mfu"] = float(f"{done / work.peak:.3g}")
    return found
