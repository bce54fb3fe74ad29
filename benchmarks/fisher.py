"""The inverse Fisher against the published rank-1 recursion: time, peak memory, error.

    python benchmarks/fisher.py --rows 768 --columns 768 --block 50 --grads 64 [--json out.json]

Each side runs in a process of its own (peak memory is a process's), on the same Gaussian gradients,
whose making is not counted. Memory is the peak above the state before the first gradient was made,
over the inverse in float32, and over that and the gradients at hand. The error is the relative
Frobenius error of a sample of blocks against float64.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from obert_sweeps.method.fisher import FisherInverse

AT_ONCE = 16  # gradients at hand
SAMPLE = 50  # blocks compared with float64


class Source:
    """m Gaussian gradients in chunks, in one buffer; knows the time it took and their sample."""

    def __init__(self, m: int, d: int, scale: float, sample: int) -> None:
        self.buffer = torch.empty(min(AT_ONCE, m), d)
        self.m, self.scale, self.seconds = m, scale, 0.0
        self.sample = torch.empty(m, sample)

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        for first in range(0, self.m, AT_ONCE):
            start = time.perf_counter()
            part = self.buffer[: self.m - first]
            part.normal_(generator=generator).mul_(self.scale)
            self.sample[first : first + len(part)] = part[:, : self.sample.shape[1]]
            self.seconds += time.perf_counter() - start
            yield part


def recursion(grads: Iterable[Tensor], d: int, block: int, damp: float, m: int) -> Tensor:
    """G <- G - (G g)(G g)^T / (m + g^T G g), float32, all blocks batched (sparseml's way).

    The outer product is subtracted in place, which is twice as fast as making it first.
    """
    count = -(-d // block)
    inverse = torch.eye(block).div(damp).repeat(count, 1, 1)
    padded = torch.zeros(count * block)
    for part in grads:
        for grad in part:
            padded[:d] = grad
            g = padded.view(count, block, 1)
            product = torch.bmm(inverse, g)
            scale = m + torch.bmm(g.mT, product)
            inverse.addcmul_(product / scale, product.mT, value=-1)
    return inverse


def engine(grads: Iterable[Tensor], d: int, block: int, damp: float, m: int) -> FisherInverse:
    inverse = FisherInverse(d, block, damp, m)
    for part in grads:
        inverse.add(part)
    inverse.diag()
    return inverse


def measure(side: str, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds, peak memory and error of one side, in this process."""
    torch.set_num_threads(args.threads)
    d = args.rows * args.columns
    build = recursion if side == "recursion" else engine
    build([torch.randn(4, 4 * args.block)], 4 * args.block, args.block, args.damp, 4)
    blocks = min(SAMPLE, d // args.block)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = Source(args.grads, d, args.scale, blocks * args.block)
    start = time.perf_counter()
    result = build(source, d, args.block, args.damp, args.grads)
    seconds = time.perf_counter() - start - source.seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    got = result.blocks(0, blocks) if isinstance(result, FisherInverse) else result[:blocks]
    part = source.sample.double().view(-1, blocks, args.block).transpose(0, 1)
    fisher = part.mT @ part / args.grads + args.damp * torch.eye(args.block).double()
    expected = torch.linalg.inv(fisher)
    error = (got.double() - expected).norm() / expected.norm()
    return {
        "seconds": seconds,
        "peak_mib": peak / 1024,
        "peak_over_inverse": peak * 1024 / (4 * d * args.block),
        "peak_over_inverse_and_gradients": peak
        * 1024
        / (4 * d * (args.block + len(source.buffer))),
        "relative_error": float(error),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=768)
    parser.add_argument("--columns", type=int, default=768)
    parser.add_argument("--block", type=int, default=50)
    parser.add_argument("--grads", type=int, default=64)
    parser.add_argument("--damp", type=float, default=1e-7)
    parser.add_argument("--scale", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--side", choices=["recursion", "engine"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(measure(args.side, args)))
        return
    sides = {}
    for side in ("recursion", "engine"):
        child = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--side", side],
            check=True,
            capture_output=True,
            text=True,
        )
        sides[side] = json.loads(child.stdout)
    ratio = sides["recursion"]["seconds"] / sides["engine"]["seconds"]
    print(
        f"d = {args.rows} x {args.columns}, B = {args.block}, m = {args.grads}, lambda ="
        f" {args.damp:g}, |g| ~ {args.scale:g}, {args.threads} thread(s)"
    )
    print(
        f"{'':12}{'seconds':>10}{'peak MiB':>10}{'/ inverse':>11}{'/ (+ grads)':>13}{'error':>10}"
    )
    for side, row in sides.items():
        print(
            f"{side:12}{row['seconds']:10.2f}{row['peak_mib']:10.0f}"
            f"{row['peak_over_inverse']:11.2f}{row['peak_over_inverse_and_gradients']:13.2f}"
            f"{row['relative_error']:10.1e}"
        )
    print(f"ratio: {ratio:.1f}x faster")
    if args.json:
        settings = {k: v for k, v in vars(args).items() if k not in ("json", "side")}
        with open(args.json, "w") as file:
            json.dump({"settings": settings, **sides, "ratio": ratio}, file, indent=1)


if __name__ == "__main__":
    main()
