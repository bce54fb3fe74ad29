"""Dense FP32 against a pruned, quantised model in the same engine, engines side by side.

    python benchmarks/inference.py --model bert_base --sparsity 0.95 [--json out.json]
    python benchmarks/inference.py --model bert_base --gpu        2:4 against dense on a GPU

The model has random weights (or `--path`, a checkpoint's), pruned by magnitude in blocks of four
and quantised with ranges calibrated on random tokens: for speed and size, not for accuracy. Both
models are timed in turn in one process; an engine whose logits differ from ONNX Runtime's is not
timed. The ratio is the best engine's compressed throughput over its own dense FP32. With `--gpu`
the model is 2:4 in 16 bits, and dense and sparse are both eager, then both compiled. Where wall
and CPU times disagree the machine is busy with other work: trust the CPU ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from measuring import CONF, encoder_named
from rich.console import Console
from rich.table import Table

from obert_sweeps.deploy.benchmark import BenchmarkPlan, benchmark, random_inputs
from obert_sweeps.deploy.card import Facts
from obert_sweeps.deploy.engines.base import Engine
from obert_sweeps.deploy.engines.known import ENGINES, class_of
from obert_sweeps.deploy.engines.torch_2of4 import Torch2of4
from obert_sweeps.deploy.export import export
from obert_sweeps.deploy.sizes import Sizes
from obert_sweeps.method.base import PruneStep
from obert_sweeps.method.magnitude import Magnitude
from obert_sweeps.model.base import Encoder
from obert_sweeps.model.quantize import calibrate, quantize
from obert_sweeps.schema import Runtime
from obert_sweeps.sparsity.mask import Masks
from obert_sweeps.sparsity.pattern import pattern_named

BUSY = 1.3  # wall time over CPU time of a thread, above which others work on the same cores
ON_CPU = ["onnxruntime", "openvino", "deepsparse", "torch"]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def prune(model: Any, encoder: Encoder, name: str, level: float) -> dict[str, float]:
    """By magnitude; the share of zeros by layer."""
    masks = Masks(encoder.prunable(model))
    step = PruneStep(masks.layers, masks, pattern_named(name), level, True, gradients=None)  # type: ignore[arg-type]
    Magnitude().prune(step)
    return masks.by_layer()


def make_exports(args: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Both models as folders `dense` and `compressed`; what their exports measured."""
    torch.manual_seed(0)
    encoder = encoder_named(args.model, args.path)
    model = encoder.build("span", 2, layers=args.layers).eval()
    inputs = random_inputs(model.config.vocab_size)
    batch = {name: torch.from_numpy(array) for name, array in inputs(4, args.length[0]).items()}
    found: dict[str, Any] = {"vocab_size": model.config.vocab_size}
    for side in ("dense", "compressed"):
        say(f"exporting {side}")
        zeros: dict[str, float] = {}
        if side == "compressed":
            zeros = prune(model, encoder, "2of4" if args.gpu else "block4", args.sparsity)
            if not args.gpu:
                quantize(model)
                calibrate(model, [batch])
        if args.gpu:  # takes the checkpoint; ONNX of it is of no use
            model.save_pretrained(root / side)
            found[side] = {"sizes": {}}
            continue
        facts = Facts(f"{args.model} {side}", "squad", args.model, {}, zeros, quantized=True)
        (root / side).mkdir(parents=True)
        dense = Sizes(**found["dense"]["sizes"]["model.onnx"]) if "dense" in found else None
        found[side] = export(root / side, model, None, batch, lambda _, f=facts: f, dense)
    return found


def engines_of(args: argparse.Namespace) -> list[tuple[type[Engine], dict[str, Any]]]:
    if args.gpu:
        return [(Torch2of4, {"compiled": compiled}) for compiled in (False, True)]
    return [(class_of(name), {}) for name in args.engines]


def show(report: dict[str, Any], exports: dict[str, Any]) -> None:
    sizes = Table("file", "MB", "gzip MB", "zstd MB", box=None)
    for side, facts in exports.items():
        for file, size in facts["sizes"].items():
            megabytes = (f"{size[kind] / 1e6:.2f}" for kind in ("raw", "gzip", "zstd"))
            sizes.add_row(f"{side}/{file}", *megabytes)
    times = Table("engine", "batch", "length", box=None)
    for side in ("dense", "compressed"):
        for column in ("ms", "p95", "cpu ms", "/s"):
            times.add_column(f"{side} {column}", justify="right")
    times.add_column("ratio")
    times.add_column("cpu ratio")
    notes = []
    for row in report["engines"]:
        notes += [f"{row['engine']} {k}: {row[k]}" for k in ("missing", "wrong") if k in row]
        for figure in row.get("figures", []):
            values = [
                f"{figure[side][key]:.1f}"
                for side in ("dense", "compressed")
                for key in ("median_ms", "p95_ms", "cpu_ms", "throughput")
            ]
            ratios = f"{figure['speedup']:.2f}", f"{figure['cpu_speedup']:.2f}"
            times.add_row(
                row["engine"], str(figure["batch"]), str(figure["length"]), *values, *ratios
            )
        if "figures" in row:
            facts = row["compressed"]
            share = facts.get("products", {}).get("share")
            integers = "" if share is None else f", {share:.0%} of its products in integers"
            apart = f"logits {facts['difference']:.2g} from ONNX Runtime's"
            notes.append(f"{row['engine']} {facts['version']}{integers}, {apart}")
    console = Console(width=150, soft_wrap=True)
    console.print(sizes, times, *notes, sep="\n", highlight=False)


def best_ratio(report: dict[str, Any], gpu: bool) -> tuple[float | None, float]:
    """The best engine's ratio, of CPU times on a busy machine, and how busy it is."""
    figures = [figure for row in report["engines"] for figure in row.get("figures", [])]
    shares = [
        f[side]["median_ms"] * report["threads"] / f[side]["cpu_ms"]
        for f in figures
        for side in ("dense", "compressed")
    ]
    busy = statistics.median(shares) if shares and not gpu else 1.0
    key = "cpu_speedup" if busy > BUSY else "speedup"
    return max((figure[key] for figure in figures), default=None), busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", default="bert_base", choices=[p.stem for p in (CONF / "model").glob("*")]
    )
    parser.add_argument("--path", help="a checkpoint instead of random weights")
    parser.add_argument("--layers", type=int, help="keep the first so many")
    parser.add_argument("--sparsity", type=float, default=0.95)
    parser.add_argument("--engines", nargs="+", default=ON_CPU, choices=list(ENGINES))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--length", type=int, nargs="+", default=[128, 384])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--keep", metavar="DIR", help="leave the exported models there")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.gpu:
        args.sparsity = 0.5
        if (mend := Torch2of4.missing()) is not None:
            parser.error(f"--gpu: {mend}")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(args.keep or scratch)
        exports = make_exports(args, root)
        plan = BenchmarkPlan(
            {"dense": root / "dense", "compressed": root / "compressed"},
            random_inputs(exports.pop("vocab_size")),
            [(batch, length) for length in args.length for batch in args.batch],
            args.warmup,
            args.repeats,
            check=None if args.gpu else (2, args.length[0]),
            quantized=not args.gpu,
        )
        how = Runtime(store="", device="cuda" if args.gpu else "cpu", threads=args.threads)
        report = benchmark(plan, engines_of(args), how, say)
    show(report, exports)
    ratio, busy = best_ratio(report, args.gpu)
    if ratio is not None:
        kind = f"CPU time, wall time is {busy:.1f} times as much" if busy > BUSY else "wall time"
        print(f"ratio: {ratio:.2f}x ({kind})")
    if args.json:
        settings = {k: v for k, v in vars(args).items() if k != "json"}
        document = {
            "settings": settings,
            "exports": exports,
            **report,
            "ratio": ratio,
            "busy": busy,
        }
        Path(args.json).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
