"""`run`: run what is not finished, then report. The same command again resumes."""

from __future__ import annotations

from ...amounts import counted, duration
from ...make import make
from ...plan.compose import to_plain
from ...plan.dag import Plan, make_plan
from ...plan.to_run import to_run
from ...request.read import Loaded
from ...schema import RequestError
from ...store.lease import this_process
from ...sweep import Event, run_plan
from ...sweep.progress import Progress
from ...tracker.base import Tracker
from ..answer import notice
from ..caveats import tell_of_changed_code, tell_of_room
from ..check import check_stages
from ..settings import runtime_of, store_of
from .report import conclude
from .run_records import CellRecords
from .run_uploads import Uploads


def main(loaded: Loaded) -> int:
    refuse_to_launch(loaded)
    plan = make_plan(loaded)
    refuse_if_nothing_can_run(plan)
    store = store_of(loaded)
    store.check_writable()
    pending = to_run(plan.wanted(), store)
    tracker = make(to_plain(loaded.request.tracker), loaded.request.allow_targets, Tracker)
    tell_of_changed_code(plan, {s.id for s in plan.wanted()} - {s.id for s in pending}, store)
    tell_of_room(pending, store)
    if pending:
        check_stages(pending, plan, list(loaded.request.allow_targets))
    wanted = len(plan.wanted())
    notice(f"{counted(wanted, 'stage')}, {wanted - len(pending)} done already")
    if not store.place.exclusive:
        notice(f"{store.address} cannot lock out a second driver: run one at a time in it")
    cluster = to_plain(loaded.request.cluster)
    if pending and (address := cluster.get("address")):
        waits = duration(float(cluster.get("wait_seconds", 0.0)))
        notice(f"Ray cluster {address}: tried for up to {waits} (cluster.wait_seconds)")
    owner = f"a driver, {this_process()}"
    with store.sole_driver(owner), Uploads(loaded) as uploads:
        with Progress(pending, store) as progress:
            records = CellRecords(plan, store, tracker, progress.say)
            records.catch_up()

            failed: set[str] = set()

            def on_event(event: Event) -> None:
                if event.kind in ("failed", "blocked"):
                    failed.add(event.stage)
                progress.on_event(event)
                if event.kind == "finished":
                    records.stage_ended(event.stage)
                    uploads.look()

            run_plan(pending, runtime_of(loaded), cluster, on_event, plan.first)
        code = conclude(loaded, plan, store)
        tracker.report(str(store.root / "report"), str(store.root))
        uploads.finish()
    return code or (1 if failed else 0)  # also where it was no cell's last stage


def refuse_to_launch(loaded: Loaded) -> None:
    """A cluster that is yet to be had is not run on from here."""
    if (launch := loaded.request.cluster.get("launch")) is not None:
        raise RequestError(
            "this cluster has not been started yet, and `run` needs a running one. Print the file "
            f"that starts it and runs this request: obert-sweeps launch … > {launch.file}. On a "
            "running Ray cluster: obert-sweeps run cluster.address=auto"
        )


def refuse_if_nothing_can_run(plan: Plan) -> None:
    blocked = plan.blocked()
    if len(blocked) == len(plan.selected()):
        raise RequestError(f"nothing can run: {blocked[0][0]}")
