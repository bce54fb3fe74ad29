"""Grouped Fisher gradients against one pass for each mini-batch: seconds, tokens, equality.

    python benchmarks/gradients.py --task sst2 --rows 16 --data-root DATA --model-path MODEL

Both sides get the same rows of the task's training data, in one process, in turns. The peer runs
each mini-batch through the model by itself, padded to its longest row, and differentiates the
prunable weights. The model is the checkpoint with a new head. Where one thread does all the work,
its processor time is what is compared, since other programs may be running; else wall time is.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from measuring import TASKS, clock_of, synchronise, task_leaf
from torch import Tensor, nn

from obert_sweeps.make import make
from obert_sweeps.model.bert import Bert
from obert_sweeps.task.base import Task
from obert_sweeps.task.heads import Batch
from obert_sweeps.train.data import Data
from obert_sweeps.train.forward import Setup, inputs, to_device
from obert_sweeps.train.gradients import GradientSource


def one_pass_each(
    model: nn.Module, layers: dict[str, nn.Linear], task: Task, batches: list[Batch], device: Any
) -> Iterator[tuple[str, Tensor]]:
    """What a loop over mini-batches does; the protocol of the source."""
    weights = [layer.weight for layer in layers.values()]
    for batch in batches:
        part = to_device(batch, device)
        loss = task.head.loss(model(**inputs(part)), part)
        found = torch.autograd.grad(loss, weights)
        yield from ((name, gradient[None]) for name, gradient in zip(layers, found, strict=True))


class Recorded:
    """A task that remembers the mini-batches it made."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.batches: list[Batch] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def collate(self, *given: Any) -> Batch:
        self.batches.append(self.task.collate(*given))
        return self.batches[-1]


def seconds(drawn: Iterator[tuple[str, Tensor]], device: torch.device, threads: int) -> float:
    clock = clock_of(device, threads)
    begun = clock()
    for _ in drawn:
        pass
    synchronise(device)
    return clock() - begun


def error(
    one: Iterator[tuple[str, Tensor]], other: Iterator[tuple[str, Tensor]], names: list[str]
) -> float:
    """The largest relative Frobenius error of a layer's gradient of one mini-batch."""
    sides = []
    for side in (one, other):
        by_layer: dict[str, list[Tensor]] = {name: [] for name in names}
        for name, gradients in side:
            by_layer[name].extend(gradients.cpu().clone())
        sides.append(by_layer)
    return max(
        float((a - b).norm() / a.norm())
        for name in names
        for a, b in zip(sides[0][name], sides[1][name], strict=True)
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device(args.device)
    task = Recorded(make(task_leaf(args.task, args.data_root), [], Task))
    encoder = Bert(name="bert_base", path=str(args.model_path))
    model = encoder.build(task.head.name, task.num_labels).to(device).eval()
    layers = encoder.prunable(model)
    tokenizer = encoder.tokenizer()
    rows = task.features("train", tokenizer, args.train_rows)
    data = Data(task, tokenizer, lambda: rows)  # type: ignore[arg-type]
    source = GradientSource(model, layers, data, Setup(device), seed=0)
    few = min(args.grads, 4)
    grouped = [(name, g.clone()) for name, g in source(few, args.rows)]
    batches = task.batches
    apart = one_pass_each(model, layers, task.task, batches, device)
    worst = error(apart, iter(grouped), list(layers))
    del grouped
    times: dict[str, list[float]] = {"one pass each": [], "grouped": []}
    for draw in range(1, args.repeats + 1):
        task.batches = []
        spent = seconds(source(args.grads, args.rows, draw=draw), device, args.threads)
        times["grouped"].append(spent / args.grads)
        batches = task.batches
        apart = one_pass_each(model, layers, task.task, batches, device)
        times["one pass each"].append(seconds(apart, device, args.threads) / args.grads)
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches) / args.grads
    padded = sum(batch["input_ids"].numel() for batch in batches) / args.grads
    sides = {
        side: {
            "seconds": statistics.median(found),
            "of": found,
            "tokens_a_second": tokens / statistics.median(found),
        }
        for side, found in times.items()
    }
    return {
        "tokens": tokens,
        "tokens_padded": padded,
        "relative_error": worst,
        **sides,
        "ratio": sides["one pass each"]["seconds"] / sides["grouped"]["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=sorted(TASKS), default="sst2")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--model-path", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=16, help="rows of a mini-batch")
    parser.add_argument("--grads", type=int, default=32, help="mini-batches of one measurement")
    parser.add_argument("--train-rows", type=int, default=5000, help="rows that are drawn from")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    found = measure(args)
    print(
        f"{args.task}, {args.rows} rows a mini-batch: {found['tokens']:.0f} tokens,"
        f" {found['tokens_padded']:.0f} when padded; {args.threads} thread(s), {args.device}"
    )
    print(f"{'':16}{'s a gradient':>14}{'tokens/s':>10}")
    for side in ("one pass each", "grouped"):
        row = found[side]
        print(f"{side:16}{row['seconds']:14.3f}{row['tokens_a_second']:10.0f}")
    print(f"ratio: {found['ratio']:.2f}x faster; relative error {found['relative_error']:.1e}")
    if args.json:
        settings = {k: str(v) for k, v in vars(args).items() if k != "json"}
        with open(args.json, "w") as file:
            json.dump({"settings": settings, **found}, file, indent=1)


if __name__ == "__main__":
    main()
