"""2:4 products against dense ones on a GPU, layer by layer: what bounds a pruned encoder's speed.

    python benchmarks/two_of_four.py --model bert_base --tokens 128 2048 24576 98304 [--json FILE]

Each product x W^T + b of an encoder layer in 16 bits, dense, and 2:4 (cuSPARSELt) in four forms:
`rows`, x and the result token by token, as the dense product has them; `columns`, the result
feature by feature; `both`, x so too; and `engine`, what torch-2of4 does: columns, copied to rows.
Times are of a product alone, as one of many in a CUDA graph, so without launching, in µs; TFLOP/s
count all products of the dense matrix. The last row of each number of tokens has all linear layers
of the encoder; the ratio printed at the end is the engine's best of those.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from measuring import CONF, encoder_named
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from obert_sweeps.deploy.engines.torch_2of4 import CuSparseLtLinear, Torch2of4
from obert_sweeps.sparsity.pattern import pattern_named

IN_A_GRAPH = 4  # products of one graph, which is timed; planning one can take half a second
SIDES = ("dense", "rows", "columns", "both", "engine")
REPEATS = 7


def microseconds(call: Callable[[], Tensor]) -> float:
    """The median time of one call on the GPU."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(IN_A_GRAPH):
            call()
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(1e3 * start.elapsed_time(end) / IN_A_GRAPH)
    return sorted(times)[REPEATS // 2]


def linear(rows: int, columns: int, dtype: torch.dtype) -> nn.Linear:
    """A layer with 2:4 random weights."""
    layer, pattern = nn.Linear(columns, rows).requires_grad_(False), pattern_named("2of4")
    costs = pattern.costs(layer.weight.abs())
    layer.weight.mul_(pattern.select({"layer": costs}, 0.5)["layer"])
    return layer.to("cuda", dtype)


@torch.inference_mode()
def measure(rows: int, columns: int, tokens: int, dtype: torch.dtype) -> dict[str, Any]:
    """µs of a (rows, columns) weight's product with so many tokens, dense and sparse."""
    layer = linear(rows, columns, dtype)
    inputs = torch.randn(tokens, columns, device="cuda", dtype=dtype)
    turned = inputs.t().contiguous()
    packed = torch._cslt_compress(layer.weight)
    engine = CuSparseLtLinear(packed, layer.bias)

    def sparse(right: Tensor, by_rows: bool) -> Tensor:
        product = torch._cslt_sparse_mm(packed, right, bias=layer.bias, transpose_result=by_rows)
        return product if by_rows else product.t()

    calls: dict[str, Callable[[], Tensor]] = {
        "dense": lambda: layer(inputs),
        "rows": lambda: sparse(inputs.t(), True),
        "columns": lambda: sparse(inputs.t(), False),
        "both": lambda: sparse(turned, False),
        "engine": lambda: engine(inputs),
    }
    expected = layer(inputs).float()
    found: dict[str, Any] = {"rows_of": rows, "columns_of": columns, "tokens": tokens}
    for side, call in calls.items():
        start = time.perf_counter()
        difference = float((call().float() - expected).norm() / expected.norm())
        found[side] = {
            "first_call_s": time.perf_counter() - start,
            "us": microseconds(call),
            "difference": difference,
        }
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def layers_of(model: str) -> Counter[tuple[int, int]]:
    """The shapes of an encoder's prunable weights, and how many there are of each."""
    encoder = encoder_named(model)
    with torch.device("meta"):
        built = encoder.build("span", 2)
    return Counter(tuple(layer.weight.shape) for layer in encoder.prunable(built).values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", default="bert_base", choices=[p.stem for p in (CONF / "model").glob("*")])
    add("--tokens", type=int, nargs="+", default=[128, 2048, 24576, 98304])
    add("--precision", choices=["fp16", "bf16"], default="fp16")
    add("--json", metavar="FILE")
    args = parser.parse_args()
    if (mend := Torch2of4.missing()) is not None:
        parser.error(mend)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[args.precision]
    table = Table("tokens", "weight", "layers", box=None)
    for column in (*SIDES, "dense TFLOP/s", "best TFLOP/s", "best ratio", "engine's"):
        table.add_column(column, justify="right")
    found, ratios, layers = [], [], layers_of(args.model)
    for tokens in args.tokens:
        sums, work = dict.fromkeys(SIDES, 0.0), 0.0
        for (rows, columns), count in layers.items():
            row = measure(rows, columns, tokens, dtype)
            found.append(row | {"layers": count})
            operations = 2.0 * rows * columns * tokens
            work += count * operations
            cells = [f"{rows} x {columns}", str(count)]
            times = {side: row[side]["us"] for side in SIDES}
            show(table, tokens, cells, times, operations)
            for side in SIDES:
                sums[side] += count * times[side]
        ratios.append(show(table, tokens, ["all", ""], sums, work))
    console = Console(width=160, soft_wrap=True)
    worst = max(row[side]["difference"] for row in found for side in SIDES)
    console.print(table, f"{torch.cuda.get_device_name()}, torch {torch.__version__},"
                  f" {Torch2of4.backend()}; results differ by {worst:.1e} at most",
                  highlight=False)  # fmt: skip
    print(f"ratio: {max(ratios):.2f}x")
    if args.json:
        document = {"settings": vars(args), "products": found, "ratio": max(ratios)}
        Path(args.json).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def show(
    table: Table, tokens: int, cells: list[str], times: Mapping[str, float], operations: float
) -> float:
    """A row of the table; returns how much faster than dense the engine is."""
    best = min(times[side] for side in SIDES[1:])
    rates = [f"{operations / us / 1e6:.0f}" for us in (times["dense"], best)]
    ratios = [times["dense"] / us for us in (best, times["engine"])]
    figures = [f"{us:.1f}" for us in times.values()]
    table.add_row(str(tokens), *cells, *figures, *rates, *(f"{ratio:.2f}" for ratio in ratios))
    return ratios[1]


if __name__ == "__main__":
    main()
