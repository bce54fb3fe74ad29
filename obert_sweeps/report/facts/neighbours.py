"""Cells of one's own beside others of the same store: a new method among its competitors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from ...catalogue.cell import primary_metric
from ...catalogue.tables import document_cells
from .lineage import is_dense_model
from .means import deviation, mean_of_known, means
from .outcome import as_asked_for, finite, measured_sparsity
from .versions import versions
from .views import PlanView, StoreView

Record = Mapping[str, Any]
Group = dict[int, Record]  # by seed
Key = tuple[str, str, tuple[str, ...], frozenset[str]]  # id, pattern, settings, how it was made


def neighbours(plan: PlanView, store: StoreView, records: Iterable[Record]) -> list[dict[str, Any]]:
    """One row for each cell of `records` (STORE/cells) that an own cell of the plan compares with.

    These are of the same task and model and share a stage with it: the model they start from. A
    row has all recorded seeds: id, settings (what not all the others were run with, versions of
    the mathematics included), method, sparsity (as asked for), measured_sparsity (None where no
    result says it), pattern, seeds, metric (that it is ordered by), measured (means), sd, recovery
    (share of its dense model, see `_recovery`), selected (it is of this request), stage (of its
    last seed), last_stages (of all its seeds). Ordered by task, sparsity and score, best first.
    """
    chosen = [cell for cell in plan.cells.values() if cell.selected]
    selected = {final for cell in chosen for final in cell.finals.values()}
    own: dict[tuple[str, str], set[str]] = {}  # task and model -> stages
    for cell in (cell.cell for cell in chosen if cell.cell.table == 0):
        own.setdefault((cell.task, cell.model), set()).update(plan.cells[cell.id].stages)
    known, found = [_as_it_came_out(r, store) for r in records], dict[Key, Group]()
    for record in known:
        if (record["task"], record["model"]) in own:
            found.setdefault(_key(record, store), {})[record["seed"]] = record
    shown = {
        key: group
        for key, group in found.items()
        if any(own[r["task"], r["model"]] & set(r["stages"]) for r in group.values())
    }
    rows = [
        _row(key, list(group.values()), _recovery(group, known, store), selected, store)
        for key, group in shown.items()
    ]
    said = [set(row["settings"]) for row in rows if row["settings"]]
    common = set.intersection(*said) if len(said) > 1 else set()
    made = _differing_versions([next(iter(group.values())) for group in shown.values()], store)
    for row, version in zip(rows, made, strict=True):
        row["settings"] = [one for one in row["settings"] if one not in common] + version
    rows.sort(key=lambda row: (row["task"], _level(row), -_score(row)))
    return rows if len(rows) > 1 else []


def _as_it_came_out(record: Record, store: StoreView) -> Record:
    """Its last stage may have been run again since it was recorded."""
    result = store.result(record["stages"][-1])
    return record if result is None else {**record, "measured": finite(result.get("metrics"))}


def _key(record: Record, store: StoreView) -> Key:
    """What tells a row from others: the pattern by itself, for not every record says it."""
    said = (one for one in record.get("settings", ()) if not one.startswith("sparsity="))
    return record["id"], _pattern(record, store), tuple(said), _made(record, store)


def _pattern(record: Record, store: StoreView) -> str:
    """As recorded; in records of before as its stages' recipes say; empty where none prunes."""
    if said := record.get("pattern"):
        return str(said)
    found = [
        s["recipe"].get("sparsity", {}).get("pattern", "dense") for s in _made_of(record, store)
    ]
    pruned = [pattern for pattern in found if pattern != "dense"]
    return str((pruned or [""])[-1])


def _made(record: Record, store: StoreView) -> frozenset[str]:
    """Its training stages but for seeds: what another preset made is not one more seed of it."""
    trained = (s["identity"] for s in _made_of(record, store) if "training" in s["recipe"])
    alike = ({k: v for k, v in one.items() if k not in ("seed", "parents")} for one in trained)
    return frozenset(json.dumps(one, sort_keys=True) for one in alike)


def _differing_versions(records: list[Record], store: StoreView) -> list[list[str]]:
    """Of each, the versions that not all rows of its task share; a method's, not all of its own."""
    whose = {"version": ("task",), "task_version": ("task",), "method_version": ("task", "method")}
    made = [_versions(record, store) for record in records]
    rows = [
        {(key, *(record[name] for name in whose[key])): found for key, found in of.items() if found}
        for record, of in zip(records, made, strict=True)
    ]
    alike: dict[tuple[str, ...], set[str]] = {}
    for row in rows:
        for place, version in row.items():
            alike.setdefault(place, set()).add(version)
    return [
        [f"{place[0]}={found}" for place, found in row.items() if len(alike[place]) > 1]
        for row in rows
    ]


def _versions(record: Record, store: StoreView) -> dict[str, str]:
    """Of its training stages, 1+2 where they differ; the method's, of those that are by it."""
    trained = [s for s in _made_of(record, store) if "training" in s["recipe"]]
    own = [s for s in trained if s["tags"].get("method") == record["method"]]
    by_key = {"version": trained, "task_version": trained, "method_version": own}
    return {
        key: "+".join(str(n) for n in sorted({versions(s)[key] for s in stages}))
        for key, stages in by_key.items()
    }


def _made_of(record: Record, store: StoreView) -> list[dict[str, Any]]:
    return [stage for i in record["stages"] if (stage := store.stage(i)) is not None]


def _metric(record: Record, store: StoreView) -> str:
    last = store.stage(record["stages"][-1]) or {}
    return primary_metric(record["task"], last.get("recipe", {}).get("task"))


def _recovery(group: Group, records: Iterable[Record], store: StoreView) -> float | None:
    """Mean score over that of the dense models which the group's models are made from.

    Of cells of the document that none has gone into, it is the one of the same seed in their row.
    Seeds without one are left out; None where all are.
    """
    metric = _metric(next(iter(group.values())), store)
    scores, dense = [], []
    for record in group.values():
        score, of_dense = record["measured"].get(metric), _dense_score(record, records, store)
        if score is not None and of_dense is not None:
            scores.append(score)
            dense.append(of_dense)
    return fmean(scores) / fmean(dense) if scores and fmean(dense) > 0 else None


def _dense_score(record: Record, records: Iterable[Record], store: StoreView) -> float | None:
    metric, made_of = _metric(record, store), _made_of(record, store)
    chain = [s["id"] for s in made_of if is_dense_model(s["tags"], s["recipe"], record["task"])]
    if chain:
        measured = (store.result(chain[-1]) or {}).get("metrics") or {}
    else:
        # Of the same request, since another preset's dense model is another, and as published.
        baseline = (_BASELINES.get(record["id"]), record["seed"], record.get("request"), False)
        rows = (r for r in records if _as_in_its_row(r) == baseline)
        measured = next((r["measured"] for r in rows), {})
    score = measured.get(metric)
    return None if score is None else float(score)


def _as_in_its_row(record: Record) -> tuple[Any, ...]:
    return record["id"], record["seed"], record.get("request"), bool(record.get("settings"))


_BASELINES = {cell.id: cell.baseline for cell in document_cells() if cell.baseline}


def _row(
    key: Key, records: list[Record], recovery: float | None, selected: set[str], store: StoreView
) -> dict[str, Any]:
    last = records[-1]
    results = [found for record in records if (found := store.result(record["stages"][-1]))]
    measured = means(record["measured"] for record in records)
    values = {m: [v for r in records if (v := r["measured"].get(m)) is not None] for m in measured}
    return {name: last[name] for name in ("id", "task", "method", "sparsity")} | {
        "settings": list(dict.fromkeys([*key[2], *last.get("request", ())])),
        "pattern": key[1],
        "measured_sparsity": mean_of_known(map(measured_sparsity, results))[0],
        "seeds": sorted(record["seed"] for record in records),
        "metric": _metric(last, store),
        "measured": measured,
        "sd": {metric: deviation(found) for metric, found in values.items()},
        "recovery": recovery,
        "selected": any(record["stages"][-1] in selected for record in records),
        "stage": last["stages"][-1],
        "last_stages": [record["stages"][-1] for record in records],
    }


def _level(row: Mapping[str, Any]) -> float:
    """The sparsity asked for, where that was reached: what was measured is off by a few weights."""
    asked, share = row["sparsity"], row["measured_sparsity"]
    return float(asked if as_asked_for(share, asked) else share)


def _score(row: Mapping[str, Any]) -> float:
    return float(row["measured"].get(row["metric"], float("-inf")))
