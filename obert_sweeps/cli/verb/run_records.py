"""A cell and seed is complete when its last stage is: it is recorded, tracked and announced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...plan.dag import CellPlan, Plan
from ...report import words
from ...report.facts.lineage import ancestors
from ...report.facts.outcome import outcome_of
from ...report.judgement.cells import cell_entries
from ...store import Store
from ...tracker.base import Tracker


@dataclass
class CellRecords:
    """Writes ROOT/cells/… for every complete cell of a plan, once, or again where it has changed.

    A stage whose folder was deleted is run again, and may come out otherwise, with an engine that
    was not there before. A record is written after the tracker has seen it, so that a driver killed
    in between does both again; deterministic run ids make the second time harmless.
    """

    plan: Plan
    store: Store
    tracker: Tracker
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        recorded = [r for r in self.store.cells() if r.get("stages")]
        self.known = {
            _key(r["id"], r["seed"], r["stages"][-1], r.get("settings", ())): r for r in recorded
        }

    def stage_ended(self, stage_id: str) -> None:
        """Record the cells whose last stage this is."""
        for planned in self.plan.selected():
            for seed, final in planned.finals.items():
                if final == stage_id:
                    self._complete(planned, seed)

    def catch_up(self) -> None:
        """Record the cells that earlier runs completed without recording what they came to."""
        for planned in self.plan.selected():
            for seed, final in planned.finals.items():
                if self.store.result(final) is not None:
                    self._complete(planned, seed)

    def _complete(self, planned: CellPlan, seed: int) -> None:
        key = _key(planned.cell.id, seed, planned.finals[seed], planned.cell.settings)
        record, line = self._record(planned, seed)
        known = self.known.get(key)
        if known is not None:
            if known.get("measured") == record["measured"]:
                return
            record["settings"] = known.get("settings", [])  # in whose words it is on file
        self.known[key] = record
        self.tracker.cell(record, str(self.store.root))
        self.store.write_cell(record)
        self.say(line)

    def _record(self, planned: CellPlan, seed: int) -> tuple[dict[str, Any], str]:
        cell = planned.cell
        one = replace(planned, finals={seed: planned.finals[seed]})
        outcome = outcome_of(one, self.plan, self.store)
        (entry,) = cell_entries({cell.id: one}, {cell.id: outcome})
        values, printed = dict(entry["measured"]), dict(cell.published)
        record = {
            **{k: getattr(cell, k) for k in ("id", "table", "task", "model", "method")},
            "sparsity": cell.sparsity,
            "measured_sparsity": entry["measured_sparsity"],
            "pattern": cell.pattern,
            "settings": list(cell.settings),
            "request": list(self.plan.said),
            "seed": seed,
            "stages": ancestors(planned.finals[seed], self.plan.stages),
            "measured": values,
            "published": printed,
            "difference": {
                k: v - printed[k]
                for k, v in values.items()
                if v is not None and printed.get(k) is not None
            },
            "verdict": entry["verdict"],
        }
        return record, _line(entry)


def _line(entry: Mapping[str, Any]) -> str:
    """What is said of a cell: no document has a value for one of one's own."""
    parts = [entry["id"], words.cells.measured(entry)]
    if entry["table"]:
        parts.append(f"(document {words.cells.published(entry)})")
    return "  ".join([*parts, entry["label"]])


def _key(cell: str, seed: int, final: str, settings: Iterable[str]) -> tuple[Any, ...]:
    """By what a record is known. Settings of one's own cells may say one thing in two ways."""
    return cell, seed, final, () if cell.startswith("t0/") else tuple(settings)
