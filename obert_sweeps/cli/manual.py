"""The verbs, the keys that each of them reads, and what `--help` prints. Imports no Hydra."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from ..shipped import leaf_names

PROGRAM = "obert-sweeps"
WIDTH = 100
EXIT_CODES = (
    "0 all done; 1 some failed or blocked; 2 wrong request;\n"
    "130 or 143 interrupted (the same command resumes)"
)


@dataclass(frozen=True)
class Verb:
    """A verb's module is `obert_sweeps.cli.verb.<name>`; its `main(loaded) -> int` does the work.

    keys: of KEYS, those that it reads. groups: of GROUPS, those that one can choose from.
    """

    does: str
    example: str
    keys: tuple[str, ...]
    groups: tuple[str, ...] = ()


CELLS = ("table", "cells")
RECIPE = ("seeds", "vary", "comparison", "data_root", "model.path", "budget")
LEAVES = ("task", "model", "method", "sparsity", "schedule", "distill", "preset")
WORKERS = ("cluster.device", "cluster.gpus_per_stage", "cluster.workers_per_stage")
RAY = ("cluster.address", "cluster.memory_gb", "cluster.max_failures")
WORK = (*CELLS, *RECIPE, "store", "allow_targets")
COMMON = (*CELLS, "seeds", "data_root", "model.path", "budget", "store", "format")

VERBS = {
    "ls": Verb("the cells with published values", "ls table=5", (*CELLS, "format"), LEAVES[:4]),
    "plan": Verb(
        "stages, time, disk, what is missing",
        "plan table=all preset=paper",
        (*WORK, "format"),
        (*LEAVES, "cluster"),
    ),
    "run": Verb(
        "run; the same command again resumes",
        "run table=1",
        (*WORK, *WORKERS, *RAY, "format"),
        (*LEAVES, "cluster", "tracker"),
    ),
    "status": Verb(
        "what is done, running, failed, blocked, and why",
        "status stage=3fa9",
        ("stage", *WORK, "format"),
        LEAVES,
    ),
    "report": Verb(
        "measured beside published, verdicts, claims, cost",
        "report table=1",
        (*WORK, "format"),
        LEAVES,
    ),
    "audit": Verb(
        "knobs each method sets per task, and what it was given",
        "audit preset=paper",
        (*WORK, "format"),
        LEAVES,
    ),
    "replay": Verb(
        "one stage again in this process, without Ray",
        "replay stage=3fa9",
        ("stage", "store", "cluster.device", "allow_targets", "format"),
    ),
    "sync": Verb(
        "rebuild the W&B runs from the store",
        "sync tracker.mode=online",
        ("store", "tracker.mode", "tracker.runs_per_minute", "allow_targets"),
    ),
    "launch": Verb(
        "the file that starts a run on a cluster",
        "launch cluster=slurm table=1",
        WORK,
        ("cluster", *LEAVES, "tracker"),
    ),
    "gc": Verb(
        "free what no cell needs any more; lists first, deletes with confirm=true",
        "gc",
        ("confirm", *WORK, "format"),
        LEAVES,
    ),
    "doctor": Verb(
        "versions, devices, data, disk: what works, how to fix",
        "doctor format=json",
        (*WORK, "format"),
        (*LEAVES, "cluster", "tracker"),
    ),
}

KEYS = {  # key -> how it is said, and what for
    "stage": ("stage=3fa9", "one stage, by its id or a unique beginning of it"),
    "confirm": ("confirm=true", "delete what is listed"),
    "table": ("table=5", "cells of one table; [1,4]; all (default); 0: a cell of your own"),
    "cells": ("cells='t5/sst2/*'", "of these, the cells whose id fits; a list is possible"),
    "seeds": ("seeds=3", "so many runs of each cell, or a list: seeds=[42,7]"),
    "vary": ("vary=all", "a seed for the dense and upstream models too (default: result)"),
    "comparison": ("comparison=equal_budget", "same epochs, batch and rate for all methods"),
    "data_root": ("data_root=DIR", "read DIR/<task>/<split>.parquet instead of the hub"),
    "model.path": ("model=bert_base model.path=DIR", "start from this checkpoint"),
    "budget": ("budget.max_epochs=1", "also max_train_rows, max_eval_rows, max_fisher_gradients"),
    "store": ("store=DIR", "where the results are (default: runs); s3://BUCKET/PREFIX too"),
    "allow_targets": ("allow_targets=[PACKAGE]", "leaves may name classes of this package"),
    "cluster.device": ("cluster.device=cpu", "run on this device (default: auto)"),
    "cluster.gpus_per_stage": ("cluster.gpus_per_stage=1", "of each worker; 0.5: two share one"),
    "cluster.workers_per_stage": ("cluster.workers_per_stage=4", "split each stage so many ways"),
    "cluster.address": ("cluster.address=auto", "a Ray cluster that runs already; HOST:PORT too"),
    "cluster.memory_gb": (
        "cluster.memory_gb=8",
        "GiB of a worker's pruning step (default: 80 % of the free)",
    ),
    "cluster.max_failures": (
        "cluster.max_failures=3",
        "times a stage resumes after a process of it died",
    ),
    "tracker.mode": ("tracker.mode=online", "upload the runs (default: offline)"),
    "tracker.runs_per_minute": ("tracker.runs_per_minute=10", "upload no faster"),
    "format": ("format=json", "one JSON document on stdout"),
}
GROUPS = {  # group -> what to know of its leaves, which are the files in conf/GROUP/
    "task": "selects cells; task.KEY=VALUE changes the chosen one",
    "model": "selects cells; model.KEY=VALUE",
    "method": "selects cells; method.KEY=VALUE",
    "sparsity": "selects cells; sparsity.level=0.9",
    "schedule": "only for table=0",
    "distill": "only for table=0",
    "preset": "demo unless you choose another",
    "cluster": "local by default; kuberay, ray, slurm: for launch, with cluster.launch.nodes=2",
    "tracker": "wandb unless you choose another",
}


def help_text(name: str | None = None) -> str:
    """What `--help` says, or `VERB --help` with the keys that this verb reads."""
    if name:
        verb = VERBS[name]
        return (
            f"{PROGRAM} {name}: {verb.does}\n\n  {PROGRAM} {verb.example}\n\n"
            f"Keys:\n{_keys(verb.keys)}\n"
            + (
                f"\nGroups (choose with GROUP=NAME):\n{_groups(verb.groups)}\n"
                if verb.groups
                else ""
            )
            + f"\nExit codes: {EXIT_CODES}"
        )
    lines = [f"  {n:<8} {v.does}\n           {PROGRAM} {v.example}" for n, v in VERBS.items()]
    return (
        "Does a pruning result hold? The document's cells as stages, measured beside published.\n\n"
        f"{PROGRAM} VERB [GROUP=NAME] [key=value] …\n\n" + "\n".join(lines) + "\n\n"
        f"Groups (choose with GROUP=NAME):\n{_groups(tuple(GROUPS))}\n\n"
        f"Keys of most verbs:\n{_keys(COMMON)}\n\n"
        f"{PROGRAM} VERB --help tells all of a verb's; --cfg job, --info, --hydra-help: Hydra's;\n"
        f"{PROGRAM} --version."
    )


def _keys(names: tuple[str, ...]) -> str:
    return "\n".join(f"  {KEYS[name][0]:<31} {KEYS[name][1]}" for name in names)


def _groups(groups: tuple[str, ...]) -> str:
    return "\n".join(_group(group) for group in groups)


def _group(group: str) -> str:
    leaves = textwrap.fill(
        " ".join(leaf_names(group)),
        WIDTH,
        initial_indent=f"  {group:<9} ",
        subsequent_indent=" " * 12,
        break_on_hyphens=False,
    )
    return f"{leaves}\n{' ' * 12}({GROUPS[group]})"
