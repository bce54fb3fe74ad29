"""A tiny model, dense and quantised, exported once for the tests of a session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_bert import CONFIG, Toy, batches_of, encoder
from torch import Tensor

from obert_sweeps.deploy.card import Facts
from obert_sweeps.deploy.export import export
from obert_sweeps.deploy.sizes import Sizes
from obert_sweeps.model.base import Encoder
from obert_sweeps.model.mobilebert import MobileBert
from obert_sweeps.model.quantize import calibrate, quantize
from obert_sweeps.train.forward import inputs

SPAN = Toy(head="span")


def mobile() -> MobileBert:
    sizes = {"intra_bottleneck_size": 16, "embedding_size": 16, "num_feedforward_networks": 2}
    return MobileBert(name="tiny", from_config=True, config={**CONFIG, **sizes})


def built(head: str = "span", leaf: Callable[..., Encoder] = encoder, sparse: float = 0.0) -> Any:
    """In eval mode, with biases; that share of weights is zero, in blocks of four."""
    torch.manual_seed(0)
    options = {"initializer_range": 0.2} if leaf is encoder else {}
    model = leaf(**options).build(head, 2).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # new ones are zero, and would not be missed
            torch.nn.init.normal_(parameter, std=0.2)
    for layer in leaf().prunable(model).values():
        blocks = layer.weight.data.view(-1, 4)
        blocks[torch.rand(len(blocks)) < sparse] = 0.0
    return model


def batch_of(head: str = "span") -> dict[str, Tensor]:
    return inputs(batches_of(Toy(head=head))(0))


def arrays_of(batch: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in batch.items()}


def quantised(model: Any, head: str = "span") -> Any:
    quantize(model)
    calibrate(model, [batch_of(head)])
    return model


def facts(found: dict[str, Any], **more: Any) -> Facts:
    return Facts(
        name="tiny",
        task="squad",
        base_model="tiny-bert",
        metrics={"f1": 88.125, "em": None},
        sparsity=more.pop("sparsity", {}),
        sizes=found["sizes"],
        ratios=found.get("ratios", {}),
        **more,
    )


@dataclass
class Exports:
    dense: Path
    compressed: Path
    logits: dict[str, dict[str, np.ndarray]]  # torch's, by side, on `batch`
    batch: dict[str, np.ndarray]
    found: dict[str, dict[str, Any]]  # what export gave, by side


def export_both(root: Path) -> Exports:
    """Dense, and 50 % in blocks of four and quantised."""
    batch, logits, found = batch_of(), {}, {}
    sizes = None
    for side in ("dense", "compressed"):
        model = built() if side == "dense" else quantised(built(sparse=0.5))
        (root / side).mkdir()
        tokenizer, quantized = SPAN.make_tokenizer(), side == "compressed"
        found[side] = export(
            root / side,
            model,
            tokenizer,
            batch,
            lambda f, q=quantized: facts(f, quantized=q),
            sizes,
        )
        sizes = sizes or Sizes(**found[side]["sizes"]["model.onnx"])
        with torch.no_grad():
            out = model(**batch)
        logits[side] = {n: out[n].numpy() for n in ("start_logits", "end_logits")}
    return Exports(root / "dense", root / "compressed", logits, arrays_of(batch), found)
