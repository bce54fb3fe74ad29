"""`run`: run what is not finished, then report. The same command again resumes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..cell_records import CellRecords
from ..compose import to_plain
from ..lease import this_process
from ..make import make
from ..plan import Plan, make_plan
from ..report import build, read_traces, run_links, terminal, write
from ..request import Loaded
from ..schema import RequestError, Runtime, Stage
from ..store import Store
from ..sweep import Event, run_plan
from ..sweep.progress import Progress
from ..to_run import to_run
from ..tracker.base import Tracker
from .answer import console, notice, print_json
from .child import ChildDied, ask
from .upload import Uploads


def main(loaded: Loaded) -> int:
    refuse_to_launch(loaded)
    plan = make_plan(loaded)
    store = Store(str(loaded.request.store))
    store.check_writable()
    pending = to_run(plan.wanted(), store)
    tracker = make(to_plain(loaded.request.tracker), loaded.request.allow_targets, Tracker)
    if pending:
        check_leaves(pending, list(loaded.request.allow_targets))
    notice(f"{len(plan.wanted())} stages, {len(plan.wanted()) - len(pending)} done already")
    if not store.place.exclusive:
        notice(f"{store.address} cannot lock out a second driver: run one at a time in it")
    owner = f"a driver, {this_process()}"
    with store.sole_driver(owner), Uploads(loaded) as uploads:
        with Progress(pending, store) as progress:
            records = CellRecords(plan, store, tracker, progress.say)
            records.catch_up()

            def on_event(event: Event) -> None:
                progress.on_event(event)
                if event.kind == "finished":
                    records.stage_ended(event.stage)
                    uploads.look()

            run_plan(plan.wanted(), runtime_of(loaded), cluster_of(loaded), on_event, plan.first)
        code = conclude(loaded, plan, store)
        tracker.report(str(store.root / "report"), str(store.root))
        uploads.finish()
    return code


def refuse_to_launch(loaded: Loaded) -> None:
    """A cluster that is yet to be had is not run on from here."""
    if (launch := loaded.request.cluster.get("launch")) is not None:
        raise RequestError(
            "this cluster has not been started yet, and `run` needs a running one. Print the file "
            f"that starts it and runs this request: obert-sweeps launch … > {launch.file}. On a "
            "running Ray cluster: obert-sweeps run cluster.address=auto"
        )


def conclude(loaded: Loaded, plan: Plan, store: Store) -> int:
    """Write the report and show it; the exit code says whether every cell is finished."""
    report = build(plan, store, store.cells())
    folder = store.root / "report"
    runs = run_links(store.root, to_plain(loaded.request.tracker))
    write(report, folder, read_traces(plan, store), runs)
    store.place.publish("report")
    if loaded.request.format == "json":
        print_json(report)
    else:
        out = console()
        for part in terminal(report):
            out.print(part)
        out.print(f"report: {folder / 'report.html'}")
        if store.address != str(store.root):
            out.print(f"        {store.address}/report/report.html")
    unfinished = [c for c in report["cells"] if c["verdict"] in ("blocked", "failed", "not_run")]
    return 1 if unfinished else 0


def runtime_of(loaded: Loaded) -> Runtime:
    """What the cluster and tracker leaves and the root keys say about where and how to run."""
    request = loaded.request
    keys = ("device", "micro_batch", "checkpoint_seconds", "group_seconds", "memory_gb")
    memory, scratch = request.cluster.memory_gb, request.cluster.scratch
    if memory is not None and memory <= 0:
        raise RequestError(
            f"cluster.memory_gb is {memory}; it must be above 0, or null for what is free."
        )
    return Runtime(
        store=Store(str(request.store)).address,
        tracker=to_plain(request.tracker),
        allow_targets=list(request.allow_targets),
        scratch=None if scratch is None else str(Path(scratch).expanduser().absolute()),
        **{key: request.cluster[key] for key in keys},
    )


def cluster_of(loaded: Loaded) -> dict[str, Any]:
    return to_plain(loaded.request.cluster)


def check_leaves(stages: Sequence[Stage], allow_targets: list[str]) -> None:
    """Make every leaf of the pending stages once, in a short-lived process.

    Raises RequestError with what a constructor refuses, before anything is started.
    """
    leaves: dict[str, Any] = {}
    for stage in stages:
        for leaf in (stage.recipe[p] for p in ("task", "model", "method") if p in stage.recipe):
            leaves[json.dumps(leaf, sort_keys=True)] = leaf
    said = json.dumps({"leaves": list(leaves.values()), "allow_targets": allow_targets})
    try:
        faults = json.loads(ask("-m", "obert_sweeps.make", said=said))
    except ChildDied as died:
        raise RequestError(
            f"the leaves could not be checked: {died}. See: obert-sweeps doctor"
        ) from died
    if faults:
        raise RequestError("\n".join(faults))
