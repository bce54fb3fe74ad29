"""What is recorded of complete cells: requests in one store do not overwrite each other's."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from obert_sweeps.cli.beside import other_cells, request_of
from obert_sweeps.cli.verb.run_records import CellRecords
from obert_sweeps.plan.dag import Plan, make_plan
from obert_sweeps.plan.garbage import find, held
from obert_sweeps.request.read import read
from obert_sweeps.store import Store
from obert_sweeps.tracker.base import Tracker

CELL = "t5/sst2/bert_base/obert/90"


def plan(*overrides: str) -> Plan:
    return make_plan(read([f"cells={CELL}", *overrides]))


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path))


def finish(planned: Plan, store: Store, **metrics: float | None) -> None:
    """Every stage of the plan, with a model."""
    for stage in planned.wanted():
        folder = store.folder(stage.id)
        folder.write_json("stage.json", stage.as_dict())
        with folder.new_folder("model") as part:
            (part / "weights").write_bytes(b"w" * 1000)
        folder.write_json("result.json", {"id": stage.id, "status": "done", "metrics": metrics})


def caught_up(planned: Plan, store: Store) -> list[str]:
    """What is said of the cells that were recorded."""
    said: list[str] = []
    CellRecords(planned, store, Tracker(), said.append).catch_up()
    return said


def recorded(store: Store) -> list[tuple[Any, Any]]:
    return sorted((r["request"][1:], r["measured"]["accuracy"]) for r in store.cells())


def test_two_requests_have_a_record_each_and_gc_keeps_both(store: Store) -> None:
    whole, less = plan(), plan("budget.max_eval_rows=9")
    for planned, accuracy in ((whole, 90.0), (less, 70.0)):
        finish(planned, store, accuracy=accuracy)
        assert len(caught_up(planned, store)) == 1 and caught_up(planned, store) == []
    assert recorded(store) == [([], 90.0), (["budget.max_eval_rows=9"], 70.0)]
    finals = {planned.cells[CELL].finals[42] for planned in (whole, less)}
    assert len(finals) == 2
    assert finals.isdisjoint(
        item.stage for item in find(whole, store, held(store))
    )  # gc keeps both
    (other,) = other_cells(whole, store)
    words = f"cells={CELL} preset=demo budget.max_eval_rows=9 'seeds=[42]'"
    assert request_of(other, store).endswith(words)


def test_a_last_stage_that_was_run_again_is_recorded_as_it_came_out(store: Store) -> None:
    """For instance a benchmark, with an engine that was not installed the first time."""
    planned = plan()
    finish(planned, store, accuracy=90.0)
    caught_up(planned, store)
    finish(planned, store, accuracy=90.0, throughput=7.0)
    assert len(caught_up(planned, store)) == 1
    (record,) = store.cells()
    assert record["measured"] == {"accuracy": 90.0, "throughput": 7.0}


def test_what_was_said_of_a_changed_cell_can_be_typed(store: Store) -> None:
    changed = plan("method=obert", "method.damp=0.1", "preset=paper", "seeds=1")
    finish(changed, store, accuracy=90.0)
    caught_up(changed, store)
    (record,) = store.cells()
    words = shlex.split(request_of(record, store))
    said = [f"cells={CELL}", "preset=paper", "method=obert", "method.damp=0.1", "seeds=[42]"]
    assert words[1:] == said
    assert make_plan(read(said)).cells[CELL].finals == changed.cells[CELL].finals


@pytest.mark.parametrize(
    "own", [[], ["table=0", "task=sst2", "model=bert_base", "method=dense"]], ids=["t5", "t0"]
)
def test_what_selects_a_cell_has_the_seeds_that_it_was_run_with(
    own: list[str], store: Store
) -> None:
    """Without them the demo's one seed would be planned, which is not in the store at all."""
    asked = own or [f"cells={CELL}"]
    made = make_plan(read([*asked, "seeds=[7,3]"]))
    finish(made, store, accuracy=90.0)
    caught_up(made, store)
    others = other_cells(plan(), store)
    assert len(others) == 2
    words = shlex.split(request_of(others[0], store, others))
    assert words[-1] == "seeds=[3,7]"
    (again,) = make_plan(read(words[1:])).selected()
    (before,) = made.selected()
    assert again.finals == before.finals


def test_what_is_said_of_a_cell_is_in_the_reports_words(store: Store) -> None:
    """No `stand_in`, and no document's value beside a cell that no document has."""
    said = "table=0 task=sst2 model=bert_base method=obert sparsity=unstructured schedule=oneshot"
    published, own = plan(), make_plan(read(said.split()))
    for planned in (published, own):
        finish(planned, store, accuracy=90.0)
    assert caught_up(published, store) == [f"{CELL}  90.00  (document 92.0)  stand-in"]
    for line in (lines := caught_up(own, store)):
        assert line.startswith("t0/") and "document" not in line and "_" not in line.split("  ")[-1]
    assert lines
