"""The inverse Fisher against the published rank-1 recursion: time, peak memory, error.

    python benchmarks/fisher.py                                    # 768 x 768, B = 50, m = 256
    python benchmarks/fisher.py --rows 3072 --grads 1024 --at-once 32 64 --scale 1
    python benchmarks/fisher.py --kind repeated --scale 1          # all blocks rank-deficient
    python benchmarks/fisher_gradients.py --model DIR --data DIR --out g.npy
    python benchmarks/fisher.py --gradients g.npy                  # of a real model

Each side runs in a process of its own (peak memory is a process's), on the same gradients, whose
making or reading is not counted. The recursion has the form that is fastest here: the outer product
subtracted in place (addcmul_). `--recursion plain` takes `inverse -= bmm(...) / ...`, which makes
it first. Columns:

    seconds     from the first gradient to the inverse, without making gradients
    ratio       the recursion's seconds over these
    cpu s       of processor time, all threads together; and their ratio, which is the better
                measure where other programs compete for the processor
    peak MiB    peak memory above the state before the first gradient
    / inverse   that over the inverse in float32, 4 d B bytes
    / (+grads)  that over the inverse and the gradients at hand, 4 d (B + k)
    error       the largest relative Frobenius error of a block against float64, of a sample
    float64     share of the products that were formed in float64
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from measuring import peak_bytes, synchronise
from torch import Tensor

from obert_sweeps.method.obs.fisher import FisherInverse

SAMPLE = 64  # blocks compared with float64, evenly spaced


class Source:
    """Gradients in chunks, in one buffer; knows the seconds it took, and the sampled blocks'."""

    def __init__(self, args: argparse.Namespace, at_once: int, count: int, d: int) -> None:
        self.args, self.count = args, count
        self.buffer = torch.empty(min(at_once, count), d, device=args.device)
        full = d // args.block
        self.chosen = torch.linspace(0, full - 1, min(SAMPLE, full)).long()
        self.sample = torch.empty(count, len(self.chosen), args.block)
        self.seconds = self.cpu_seconds = 0.0

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator(self.args.device).manual_seed(0)
        block, full = self.args.block, self.buffer.shape[1] // self.args.block
        for first in range(0, self.count, len(self.buffer)):
            synchronise(self.args.device)  # what was done with the last ones is not ours
            start, cpu_start = time.perf_counter(), time.process_time()
            part = self.buffer[: self.count - first]
            if self.args.gradients:
                read(self.args.gradients, first, part)
            else:
                part.normal_(generator=generator).mul_(self.args.scale)
            if self.args.kind == "repeated":  # inputs that always fire alike
                part[:, 1::3] = part[:, 0::3][:, : part[:, 1::3].shape[1]]
            blocks = part[:, : full * block].unflatten(1, (full, block))
            self.sample[first : first + len(part)] = blocks[:, self.chosen].cpu()
            synchronise(self.args.device)
            self.seconds += time.perf_counter() - start
            self.cpu_seconds += time.process_time() - cpu_start
            yield part

    def error(self, inverse: Tensor) -> float:
        """The largest relative error of the sampled blocks (n, B, B)."""
        grads = self.sample.double().transpose(0, 1)
        eye = torch.eye(self.args.block, dtype=torch.float64)
        expected = torch.linalg.inv(grads.mT @ grads / self.args.grads + self.args.damp * eye)
        difference = (inverse.cpu().double() - expected).flatten(1).norm(dim=1)
        return float((difference / expected.flatten(1).norm(dim=1)).max())


def read(path: str, first: int, part: Tensor) -> None:
    """Rows of an .npy file, by reading: pages of a memory map would count as ours."""
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        file.seek(4 * first * part.shape[1], 1)
        target = part if part.device.type == "cpu" else torch.empty(part.shape)
        file.readinto(target.numpy())  # type: ignore[attr-defined]
        part.copy_(target)


def recursion(grads: Iterable[Tensor], d: int, args: argparse.Namespace) -> Tensor:
    """G <- G - (G g)(G g)^T / (m + g^T G g), float32, all blocks batched (sparseml's way)."""
    count = -(-d // args.block)
    inverse = torch.eye(args.block, device=args.device).div(args.damp).repeat(count, 1, 1)
    padded = torch.zeros(count * args.block, device=args.device)
    for part in grads:
        for grad in part:
            padded[:d] = grad
            g = padded.view(count, args.block, 1)
            product = torch.bmm(inverse, g)
            scale = args.grads + torch.bmm(g.mT, product)
            if args.recursion == "plain":
                inverse -= torch.bmm(product, product.mT) / scale
            else:
                inverse.addcmul_(product / scale, product.mT, value=-1)
    return inverse


class Engine:
    """FisherInverse, with the share of products that it formed in float64."""

    def __init__(self, grads: Iterable[Tensor], d: int, args: argparse.Namespace) -> None:
        self.inverse = FisherInverse(d, args.block, args.damp, args.grads, args.device)
        exact = 0.0
        for part in grads:
            self.inverse.add(part)
            exact += len(part) * float(self.inverse.rounding.exact.double().mean())
        self.inverse.diag()
        self.exact = exact / max(self.inverse.added, 1)


def measure(side: str, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds, peak memory and error of one side, in this process. side: "recursion", or a k."""
    torch.set_num_threads(args.threads)
    d = args.rows * args.columns
    if args.gradients:
        d = np.load(args.gradients, mmap_mode="r").shape[1]
    build = recursion if side == "recursion" else Engine
    small = 4 * args.block
    build([torch.randn(4, small, device=args.device)], small, args)  # libraries are loaded
    before = peak_bytes(args.device)
    count = args.grads
    if side == "recursion" and args.recursion_grads:
        count = min(count, args.recursion_grads)
    source = Source(args, 1 if side == "recursion" else int(side), count, d)
    start, cpu_start = time.perf_counter(), time.process_time()
    result = build(source, d, args)
    synchronise(args.device)
    seconds = time.perf_counter() - start - source.seconds
    cpu_seconds = time.process_time() - cpu_start - source.cpu_seconds
    held = peak_bytes(args.device) - before
    row = {
        "seconds": seconds * args.grads / count,
        "cpu_seconds": cpu_seconds * args.grads / count,
        "peak_mib": held / 2**20,
        "peak_over_inverse": held / (4 * d * args.block),
        "peak_over_inverse_and_gradients": held / (4 * d * (args.block + len(source.buffer))),
        "relative_error": None,
        "weights": d,
    }
    if isinstance(result, Engine):
        blocks = torch.cat([result.inverse.blocks(i, i + 1) for i in source.chosen.tolist()])
        row["relative_error"] = source.error(blocks)
        row |= {"at_once": int(side), "float64_share": result.exact}
    elif count == args.grads:
        row["relative_error"] = source.error(result[source.chosen.to(result.device)])
    return row


def table(rows: dict[str, dict[str, Any]]) -> None:
    print(
        f"{'':16}{'seconds':>9}{'ratio':>7}{'cpu s':>9}{'ratio':>7}{'peak MiB':>10}"
        f"{'/ inverse':>11}{'/ (+grads)':>12}{'error':>10}{'float64':>9}"
    )
    for name, row in rows.items():
        error, share = row["relative_error"], row.get("float64_share")
        print(
            f"{name:16}{row['seconds']:9.2f}{row['ratio']:7.1f}"
            f"{row['cpu_seconds']:9.2f}{row['cpu_ratio']:7.1f}{row['peak_mib']:10.0f}"
            f"{row['peak_over_inverse']:11.2f}{row['peak_over_inverse_and_gradients']:12.2f}"
            f"{'-' if error is None else f'{error:.1e}':>10}"
            f"{'' if share is None else f'{share:.0%}':>9}"
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rows", type=int, default=768, help="of the weight; d = rows x columns (768)")
    add("--columns", type=int, default=768, help="(768)")
    add("--block", type=int, default=50, help="B, the width of a Fisher block (50)")
    add("--grads", type=int, default=256, help="m, the number of gradients (256)")
    add("--at-once", type=int, nargs="+", default=[32], help="k, gradients at hand; several (32)")
    add("--damp", type=float, default=1e-7, help="lambda (1e-7)")
    add("--scale", type=float, default=1e-3, help="of Gaussian gradients (1e-3)")
    add("--kind", choices=["full", "repeated"], default="full", help="repeated: 1 input in 3 is")
    add("--gradients", metavar="FILE", help=".npy, float32 (m, d), instead of Gaussian ones")
    add("--recursion", choices=["in-place", "plain"], default="in-place", help="(in-place)")
    add("--recursion-grads", type=int, metavar="N", help="time N of its steps, and scale to m")
    add("--threads", type=int, default=1, help="of each process (1)")
    add("--device", default="cpu", help="cpu, or cuda (cpu)")
    add(
        "--json", metavar="FILE", help="write one document; its `ratio` is the least of those shown"
    )
    add("--side", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.side:
        print(json.dumps(measure(args.side, args)))
        return
    measured: dict[str, dict[str, Any]] = {}
    for side in (*map(str, args.at_once), "recursion"):  # the slow one last, and each told at once
        child = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--side", side],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        measured[side] = json.loads(child.stdout)
        print(f"{side}: {child.stdout.strip()}", file=sys.stderr, flush=True)
    peer = measured["recursion"]
    rows = {"recursion": peer, **{f"engine, k = {k}": measured[str(k)] for k in args.at_once}}
    for row in rows.values():
        row["ratio"] = peer["seconds"] / row["seconds"]
        row["cpu_ratio"] = peer["cpu_seconds"] / row["cpu_seconds"]
    d = peer["weights"]
    what = args.gradients or f"{args.kind} Gaussian, |g| ~ {args.scale:g}"
    print(
        f"d = {d:,}, B = {args.block}, m = {args.grads}, lambda = {args.damp:g}, {what},"
        f" {args.threads} thread(s), {args.device}"
    )
    table(rows)
    if args.json:
        settings = {k: v for k, v in vars(args).items() if k not in ("json", "side")}
        engine_rows = [measured[str(k)] for k in args.at_once]
        document = {
            "settings": settings,
            "recursion": peer,
            "engine": engine_rows,
            "ratio": min(row["ratio"] for row in engine_rows),
        }
        with open(args.json, "w") as file:
            json.dump(document, file, indent=1)


if __name__ == "__main__":
    main()
