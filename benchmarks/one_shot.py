"""One-shot pruning, magnitude against oBERT: accuracy by sparsity, recomputations and update.

    python benchmarks/one_shot.py --task sst2 --json out.json --plot out.svg -- preset=small \\
        data_root=DATA model=bert_base model.path=MODEL budget.max_fisher_gradients=64 store=runs

What stands behind `--` goes to the program as it is. Each point is a cell of its own (table 0) of
`obert-sweeps run`, so all points start from one dense stage, and the same command resumes. The
`ratio` in the JSON is the share of its dense accuracy that oBERT keeps at the highest sparsity,
with the most recomputations, over the share that magnitude keeps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot

MAGNITUDE, SIMULTANEOUS, JOINT = "magnitude", "simultaneous", "joint"


@dataclass(frozen=True)
class Point:
    pattern: str
    level: float
    method: str  # dense, magnitude or obert
    recomputations: int = 1
    update: str = SIMULTANEOUS

    @property
    def series(self) -> str:
        if self.method != "obert":
            return self.method
        return f"oBERT, r = {self.recomputations}, {self.update}"

    def overrides(self, dense_schedule: str) -> list[str]:
        if self.method == "dense":
            return ["method=dense", f"schedule={dense_schedule}"]
        said = [f"method={self.method}", "schedule=oneshot", f"sparsity={self.pattern}"]
        if self.pattern != "2of4":
            said.append(f"sparsity.level={self.level:g}")
        if self.recomputations > 1:
            said.append(f"method.num_recomputations={self.recomputations}")
        if self.update != SIMULTANEOUS:
            said.append(f"method.update={self.update}")
        return said


def points(levels: list[float], recomputations: list[int], updates: list[str]) -> Iterator[Point]:
    """All of them, the cheap ones first."""
    places = [("unstructured", level) for level in levels] + [("block4", 0.5), ("2of4", 0.5)]
    for pattern, level in places:
        yield Point(pattern, level, MAGNITUDE)
    for r in sorted(recomputations):
        for update in updates:
            for pattern, level in places:
                if r == 1 or pattern != "2of4":  # 2:4 has no sparsities in between
                    yield Point(pattern, level, "obert", r, update)


def measure(point: Point, task: str, dense_schedule: str, said: list[str]) -> dict[str, float]:
    """The metrics of one cell, run or found in the store."""
    command = [sys.executable, "-m", "obert_sweeps", "run", "table=0", f"task={task}"]
    command += [
        "cluster=inline",
        "tracker=none",
        "format=json",
        *point.overrides(dense_schedule),
        *said,
    ]
    if point.method != "obert":  # what touches no stage is refused
        of_obert = ("budget.max_fisher_gradients", "method.")
        command = [one for one in command if not one.startswith(of_obert)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    (cell,) = json.loads(done.stdout)["cells"]
    found: dict[str, float] = cell["measured"]
    print(f"{point.pattern:13}{point.level:5.0%}  {point.series:28}{found}", file=sys.stderr)
    return found


def table(rows: list[dict[str, Any]], metric: str) -> str:
    """Markdown: a row a series, a column a pattern and level."""
    columns = list(dict.fromkeys((row["pattern"], row["level"]) for row in rows))
    lines = [
        "| method | " + " | ".join(f"{pattern} {level:.0%}" for pattern, level in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for series in dict.fromkeys(row["series"] for row in rows):
        mine = {(r["pattern"], r["level"]): r["metrics"] for r in rows if r["series"] == series}
        cells = [f"{mine[c][metric]:.2f}" if c in mine else "" for c in columns]
        lines.append(f"| {series} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], dense: float, metric: str, task: str, file: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    axes.axhline(dense, color="black", linewidth=0.8, label="dense")
    for series in dict.fromkeys(row["series"] for row in rows):
        mine = [r for r in rows if r["series"] == series and r["pattern"] == "unstructured"]
        style = "--" if JOINT in series else "-"
        levels = [100 * r["level"] for r in mine]
        axes.plot(levels, [r["metrics"][metric] for r in mine], style, marker="o", label=series)
    axes.set_xlabel("sparsity of the encoder's linear layers, per cent (unstructured)")
    axes.set_ylabel(f"{task} {metric}, per cent")
    axes.legend(fontsize=8)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else {})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="sst2")
    parser.add_argument(
        "--dense-schedule", default="dense", help="of the dense stage; dense_squad for SQuAD"
    )
    parser.add_argument("--metric", help="the metric of table and plot; default: the first")
    parser.add_argument("--levels", type=float, nargs="+", default=[0.5, 0.6, 0.7, 0.8, 0.9])
    parser.add_argument("--recomputations", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--updates", nargs="+", default=[SIMULTANEOUS, JOINT])
    parser.add_argument("--jobs", type=int, default=1, help="cells at once, one thread each")
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--plot", metavar="FILE", type=Path)
    parser.add_argument("overrides", nargs="*", help="for obert-sweeps run")
    args = parser.parse_args()

    def measured(point: Point) -> dict[str, float]:
        return measure(point, args.task, args.dense_schedule, args.overrides)

    dense = measured(Point("dense", 0.0, "dense"))
    metric = args.metric or next(iter(dense))
    chosen = list(points(args.levels, args.recomputations, args.updates))
    with ThreadPoolExecutor(args.jobs) as pool:
        found = pool.map(measured, chosen)
        rows = [
            {**asdict(point), "series": point.series, "metrics": metrics}
            for point, metrics in zip(chosen, found, strict=True)
        ]
    print(f"dense: {dense}\n\n{table(rows, metric)}")
    if args.plot:
        plot(rows, dense[metric], metric, args.task, args.plot)
    if args.json:
        last = [r for r in rows if r["level"] == max(args.levels)]
        kept = {r["series"]: r["metrics"][metric] for r in last}
        most = max(args.recomputations)
        best = max(value for series, value in kept.items() if f"r = {most}," in series)
        document = {
            "task": args.task,
            "overrides": args.overrides,
            "metric": metric,
            "dense": dense,
            "points": rows,
            "ratio": best / kept[MAGNITUDE],
        }
        args.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
