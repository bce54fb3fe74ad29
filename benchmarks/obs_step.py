"""One OBS step of a whole encoder within a memory budget: time, peak memory, rounds.

    python benchmarks/obs_step.py --memory-gb 15 [--scratch DIR] [--json out.json]

By default the encoder has BERT-base's shape (84.9 million prunable weights) with random weights,
and gradients are Gaussian: no forward or backward pass is in it, and the time of making gradients
is told apart. The step is `OBert.prune`, as a stage takes it. Memory is the peak of the process
above the state with weights and masks made, which is what the budget is about. The peer is the
published engine, which holds B float32 numbers a weight whatever memory there is; `ratio` is this
step's peak over that. With `--workers` so many processes, joined by gloo on this machine, take the
step together, each with its share of the mini-batches and of the inverse; figures are then of the
worker with most memory, and `weights_digest` shows whether what came out is the same.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Collection, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from measuring import peak_bytes, synchronise
from torch import nn

from obert_sweeps.method.base import PruneStep
from obert_sweeps.method.obert import OBert
from obert_sweeps.process_group import Meeting, joined
from obert_sweeps.sparsity.mask import Masks
from obert_sweeps.sparsity.pattern import pattern_named
from obert_sweeps.worker_group import ALONE, WorkerGroup


def encoder(layers: int, hidden: int, intermediate: int, device: str) -> dict[str, nn.Linear]:
    """The six prunable matrices of each layer, initialised as BERT's are."""
    shapes = {name: (hidden, hidden) for name in ("query", "key", "value", "attention.output")}
    shapes |= {"intermediate": (hidden, intermediate), "output": (intermediate, hidden)}
    made = {}
    for layer in range(layers):
        for name, (inputs, outputs) in shapes.items():
            linear = nn.Linear(inputs, outputs, bias=False, device=device)
            nn.init.normal_(linear.weight, std=0.02)
            made[f"{layer}.{name}"] = linear
    return made


class Gaussian:
    """A worker's share of gradients of scale `scale`, `at_once` mini-batches at a time.

    The same draw gives the same numbers, whoever draws them. Knows how long making them took.
    """

    def __init__(
        self, layers: dict[str, nn.Linear], at_once: int, scale: float, group: WorkerGroup
    ) -> None:
        self.layers, self.at_once, self.scale, self.group = layers, at_once, scale, group
        self.seconds, self.draws = 0.0, 0

    def __call__(
        self,
        count: int,
        batch_size: int,
        *,
        draw: int = 0,
        layers: Collection[str] | None = None,
    ) -> Iterator[tuple[str, torch.Tensor]]:
        self.draws += 1
        share = -(-count // self.group.size)  # of each worker; what is over the count is zero
        for first in range(0, share, self.at_once):
            turns = range(first, min(first + self.at_once, share))
            mine = [turn * self.group.size + self.group.rank for turn in turns]
            for number, (name, layer) in enumerate(self.layers.items()):
                if layers is not None and name not in layers:
                    continue
                synchronise(layer.weight.device)
                start = time.perf_counter()
                weight = layer.weight
                generator = torch.Generator(weight.device)
                grads = torch.empty((len(mine), *weight.shape), device=weight.device)
                for grad, i in zip(grads, mine, strict=True):
                    generator.manual_seed((draw * count + i) * len(self.layers) + number)
                    grad.normal_(generator=generator).mul_(self.scale if i < count else 0.0)
                synchronise(weight.device)
                self.seconds += time.perf_counter() - start
                yield name, grads
                del grads  # before the next is made


def measure(args: argparse.Namespace, group: WorkerGroup = ALONE) -> dict[str, Any]:
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    layers = encoder(args.layers, args.hidden, args.intermediate, args.device)
    masks = Masks(layers)
    weights = sum(layer.weight.numel() for layer in layers.values())
    source = Gaussian(layers, args.at_once, args.scale, group)
    lines: list[str] = []
    step = PruneStep(
        layers,
        masks,
        pattern_named(args.pattern),
        args.level,
        final=True,
        gradients=source,
        note=lines.append,
        group=group,
        memory=None if args.memory_gb is None else int(args.memory_gb * 2**30),
        scratch=args.scratch,
    )
    method = OBert(
        num_grads=args.grads, fisher_block_size=args.block, damp=args.damp, update=args.update
    )
    before = peak_bytes(args.device)
    start = time.perf_counter()
    method.prune(step)
    synchronise(args.device)
    seconds = time.perf_counter() - start
    masks.check()
    peak = peak_bytes(args.device)
    return {
        "weights": weights,
        "sparsity": masks.sparsity(),
        "seconds": seconds - source.seconds,
        "seconds_of_making_gradients": source.seconds,
        "draws": source.draws,
        "peak_gib": (peak - before) / 2**30,
        "process_gib": peak / 2**30,
        "published_inverse_gib": 4 * weights * args.block / 2**30,
        "ratio": (peak - before) / (4 * weights * args.block),
        "plan": lines[0],
        "weights_digest": digest(layers),
    }


def digest(layers: dict[str, nn.Linear]) -> list[float]:
    """Sums that tell one outcome from another: of the weights, their sizes, and places kept."""
    totals = torch.zeros(3, dtype=torch.float64)
    for layer in layers.values():
        flat = layer.weight.detach().flatten().cpu()
        kept = flat.nonzero().flatten().double()
        totals += torch.stack([flat.double().sum(), flat.double().abs().sum(), kept.sum()])
    return totals.tolist()


def work(end: Connection, rank: int, args: argparse.Namespace) -> None:
    """One of several workers: meets the others, and sends what it measured."""
    meeting: Any = Meeting("127.0.0.1", args.workers, 3600.0) if rank == 0 else None
    if rank == 0:
        end.send((meeting.address, meeting.port))
    place = meeting or end.recv()
    with joined(place, rank, args.workers, device=args.device, seconds=3600.0) as group:
        end.send(measure(args, group))


def together(args: argparse.Namespace) -> dict[str, Any]:
    """The measurement of the worker that took most memory."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(args.workers)]
    for rank, (_, end) in enumerate(pipes):
        context.Process(target=work, args=(end, rank, args)).start()
    ends = [end for end, _ in pipes]
    place = ends[0].recv()
    for end in ends[1:]:
        end.send(place)
    return max((end.recv() for end in ends), key=lambda found: found["peak_gib"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=12, help="encoder layers (12)")
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--intermediate", type=int, default=3072)
    parser.add_argument("--block", type=int, default=50, help="B, width of a Fisher block (50)")
    parser.add_argument("--grads", type=int, default=32, help="m, gradients of the step (32)")
    parser.add_argument("--at-once", type=int, default=32, help="of which the source gives (32)")
    parser.add_argument("--damp", type=float, default=1e-7, help="lambda (1e-7)")
    parser.add_argument("--scale", type=float, default=1e-3, help="size of a gradient (1e-3)")
    parser.add_argument("--pattern", default="unstructured", help="or block4, 2of4")
    parser.add_argument("--level", type=float, default=0.9, help="sparsity to reach (0.9)")
    parser.add_argument("--update", default="simultaneous", help="or joint")
    parser.add_argument("--memory-gb", type=float, help="GiB to use; default: 80 %% of the free")
    parser.add_argument("--scratch", type=Path, help="a folder for inverses that wait")
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the step")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    args = parser.parse_args()
    if args.device == "cuda":  # kernels are compiled, libraries loaded
        small = {"layers": 1, "hidden": 4 * args.block, "intermediate": 8 * args.block}
        measure(argparse.Namespace(**{**vars(args), **small}))
        torch.cuda.reset_peak_memory_stats()
    found = measure(args) if args.workers == 1 else together(args)
    print(found["plan"])
    print(
        f"d = {found['weights']:,}, B = {args.block}, m = {args.grads}, {args.pattern} to"
        f" {found['sparsity']:.2%}, {args.update}, {args.device}, {args.threads} thread(s)\n"
        f"{found['seconds']:.1f} s, and {found['seconds_of_making_gradients']:.1f} s for making"
        f" gradients, drawn {found['draws']} times\n"
        f"peak {found['peak_gib']:.2f} GiB above weights and masks, {found['process_gib']:.2f} GiB"
        f" in all; ratio to the published engine's inverse alone"
        f" ({found['published_inverse_gib']:.2f} GiB): {found['ratio']:.2f}\n"
        f"{args.workers} worker(s); sums of weights, their sizes, places kept:"
        f" {', '.join(f'{value:.9g}' for value in found['weights_digest'])}"
    )
    if args.json:
        settings = {k: str(v) if k == "scratch" else v for k, v in vars(args).items()}
        Path(args.json).write_text(json.dumps({"settings": settings, **found}, indent=1))


if __name__ == "__main__":
    main()
