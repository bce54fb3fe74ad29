"""One-shot pruning, magnitude against oBERT: accuracy by sparsity, recomputations and update.

    python benchmarks/one_shot.py --task sst2 --json out.json --plot out.svg -- preset=small \\
        data_root=DATA model=bert_base model.path=MODEL budget.max_fisher_gradients=64 store=runs

What stands behind `--` goes to the program as it is. Each point is a cell of its own (table 0) of
`obert-sweeps run`, so all points of one seed start from one dense stage, and the same command
resumes. A seed is that of the dense training too; the table has means and standard deviations
over seeds. The `ratio` in the JSON is the share of its dense accuracy that oBERT keeps at the
highest sparsity, with the most recomputations, over the share that magnitude keeps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot

MAGNITUDE, SIMULTANEOUS, JOINT = "magnitude", "simultaneous", "joint"
DENSE = ("dense", 0.0)

Metrics = dict[str, float]
Series = dict[str, dict[tuple[str, float], list[float]]]


@dataclass(frozen=True)
class Point:
    pattern: str
    level: float
    method: str  # dense, magnitude or obert
    recomputations: int = 1
    update: str = SIMULTANEOUS
    seed: int = 42

    @property
    def place(self) -> tuple[str, float]:
        return self.pattern, self.level

    @property
    def series(self) -> str:
        if self.method != "obert":
            return self.method
        return f"oBERT, r = {self.recomputations}, {self.update}"

    def overrides(self, dense_schedule: str) -> list[str]:
        said = [f"seeds=[{self.seed}]", "vary=all", f"method={self.method}"]
        if self.method == "dense":
            return [*said, f"schedule={dense_schedule}"]
        said += ["schedule=oneshot", f"sparsity={self.pattern}"]
        if self.pattern != "2of4":
            said.append(f"sparsity.level={self.level:g}")
        if self.recomputations > 1:
            said.append(f"method.num_recomputations={self.recomputations}")
        if self.update != SIMULTANEOUS:
            said.append(f"method.update={self.update}")
        return said


def points(levels: list[float], recomputations: list[int], updates: list[str]) -> Iterator[Point]:
    """All of one seed: the model they begin with, then the others."""
    places = [("unstructured", level) for level in levels] + [("block4", 0.5), ("2of4", 0.5)]
    yield Point(*DENSE, "dense")
    for pattern, level in places:
        yield Point(pattern, level, MAGNITUDE)
    for r in recomputations:
        for update in updates:
            for pattern, level in places:
                if r == 1 or pattern != "2of4":  # 2:4 has no sparsities in between
                    yield Point(pattern, level, "obert", r, update)


def measure(point: Point, task: str, dense_schedule: str, said: list[str]) -> Metrics:
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
    found: Metrics = cell["measured"]
    where = f"seed {point.seed}  {point.pattern:13}{point.level:5.0%}"
    print(f"{where}  {point.series:28}{found}", file=sys.stderr)
    return found


def over_seeds(found: Mapping[Point, Metrics], metric: str) -> Series:
    """For each series, by pattern and level, the metric of each seed."""
    series: Series = {}
    for point, metrics in found.items():
        places = series.setdefault(point.series, {})
        places.setdefault(point.place, []).append(metrics[metric])
    return series


def table(series: Series) -> str:
    """Markdown: a row a series, a column a pattern and level; mean and standard deviation."""
    columns = list(dict.fromkeys(place for places in series.values() for place in places))
    lines = [
        "| method | " + " | ".join(f"{pattern} {level:.0%}" for pattern, level in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name, places in series.items():
        cells = [in_words(places[column]) if column in places else "" for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def in_words(values: list[float]) -> str:
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{fmean(values):.2f}{spread}"


def plot(dense: list[float], series: Series, of: str, file: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    axes.axhline(fmean(dense), color="black", linewidth=0.8, label="dense")
    for name, places in series.items():
        mine = {level: found for (p, level), found in places.items() if p == "unstructured"}
        axes.errorbar(
            [100 * level for level in mine],
            [fmean(found) for found in mine.values()],
            [stdev(found) if len(found) > 1 else 0.0 for found in mine.values()],
            linestyle="--" if JOINT in name else "-",
            marker="o",
            capsize=2,
            label=name,
        )
    axes.set_xlabel("sparsity of the encoder's linear layers, per cent (unstructured)")
    axes.set_ylabel(f"{of}, per cent")
    if len(dense) > 1:
        axes.set_title(f"mean and standard deviation of {len(dense)} seeds", fontsize=10)
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
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--jobs", type=int, default=1, help="cells at once, one thread each")
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--plot", metavar="FILE", type=Path)
    parser.add_argument("overrides", nargs="*", help="for obert-sweeps run")
    args = parser.parse_args()

    def measured(point: Point) -> Metrics:
        return measure(point, args.task, args.dense_schedule, args.overrides)

    chosen = [
        replace(point, seed=seed)
        for seed in args.seeds
        for point in points(args.levels, args.recomputations, args.updates)
    ]
    chosen.sort(key=lambda point: (point.place != DENSE, point.recomputations))  # the cheap first
    with ThreadPoolExecutor(args.jobs) as pool:
        found = dict(zip(chosen, pool.map(measured, chosen), strict=True))
    metric = args.metric or next(iter(found[chosen[0]]))
    series = over_seeds(found, metric)
    dense = series.pop("dense")[DENSE]
    print(f"dense: {in_words(dense)} {metric}\n\n{table(series)}")
    if args.plot:
        plot(dense, series, f"{args.task} {metric}", args.plot)
    if args.json:
        highest = ("unstructured", max(args.levels))
        last = {name: fmean(places[highest]) for name, places in series.items()}
        most = f"r = {max(args.recomputations)},"
        document = {
            "task": args.task,
            "overrides": args.overrides,
            "metric": metric,
            "points": [
                {**asdict(point), "series": point.series, "metrics": metrics}
                for point, metrics in found.items()
            ],
            "ratio": max(v for name, v in last.items() if most in name) / last[MAGNITUDE],
        }
        args.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
