"""Claims about set-ups, not numbers: decided on the resolved recipes, which need not have run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...catalogue.cell import METHODS
from ...catalogue.claims import Claim
from ...catalogue.tables import document_cells

Decided = tuple[str, list[dict[str, Any]]]  # held | broken | undecided, and on what


def decide(
    claim: Claim, audit: Mapping[str, Any], entries: list[dict[str, Any]], as_published: bool
) -> Decided:
    """The claim's rule on the audit's groups and on the cells of the report.

    Whether a method is tuned is a matter of its published recipes: where others were given to all
    methods alike, nothing is decided of that.
    """
    if claim.audit in ("tuned", "tuning_free") and not as_published:
        return "undecided", []
    groups = [group for group in audit["methods"] if group["table"] == claim.table]
    if claim.audit == "one_shot":
        return _one_shot(claim, entries)
    if claim.methods:
        groups = [group for group in groups if group["method"] in claim.methods]
    verdict, evidence = {
        "tuning_free": _tuning_free,
        "tuned": _tuned,
        "no_distillation": _no_distillation,
    }[str(claim.audit)](groups)
    # One recipe is enough to show a knob, and takes all to show that there is none.
    of_all = "broken" if claim.audit == "tuned" else "held"
    some = verdict == of_all and not _whole(claim, groups)
    return ("undecided" if some else verdict), evidence


def _whole(claim: Claim, groups: list[Any]) -> bool:
    """Whether the groups have all pruned cells of the table, of the claim's methods if any."""
    wanted = {
        (cell.method, cell.task)
        for cell in document_cells()
        if cell.table == claim.table
        and cell.method in (claim.methods or METHODS.keys() - {"dense"})
    }
    return wanted <= {(group["method"], task) for group in groups for task in group["tasks"]}


def _no_distillation(groups: list[Any]) -> Decided:
    evidence = [{"method": g["method"], "distilled": g["distilled"]} for g in groups]
    if any(g["distilled"] for g in groups):
        return "broken", evidence
    return ("held" if groups else "undecided"), evidence


def _tuning_free(groups: list[Any]) -> Decided:
    """A knob is one that differs between tasks, so one task decides nothing."""
    compared, evidence = _compared(groups)
    if any(g["knobs"] for g in compared):
        return "broken", evidence
    return ("held" if compared else "undecided"), evidence


def _tuned(groups: list[Any]) -> Decided:
    compared, evidence = _compared(groups)
    if not compared:
        return "undecided", evidence
    return ("held" if any(g["knobs"] for g in compared) else "broken"), evidence


def _compared(groups: list[Any]) -> tuple[list[Any], list[dict[str, Any]]]:
    compared = [g for g in groups if len(g["tasks"]) > 1]
    keys = ("method", "tasks", "knobs", "early_stopping")
    return compared, [{k: g[k] for k in keys} for g in compared]


def _one_shot(claim: Claim, entries: list[dict[str, Any]]) -> Decided:
    """The claim's cells prune without training; every cell of the claim's methods trains."""
    alone = claim.cells()
    epochs: dict[str, list[float]] = {}
    for entry in entries:
        name = entry["id"] if entry["id"] in alone else entry["method"]
        if name in (*alone, *claim.methods) and entry["verdict"] != "blocked":
            spent = (entry["effort"]["epochs"] or 0.0) + (entry["effort"]["upstream_epochs"] or 0.0)
            epochs.setdefault(name, []).append(spent)
    evidence = [{"method": n, "epochs": sorted(set(values))} for n, values in epochs.items()]
    if any((min(values) > 0) == (name in alone) for name, values in epochs.items()):
        return "broken", evidence
    return ("held" if set(epochs) == {*alone, *claim.methods} else "undecided"), evidence
