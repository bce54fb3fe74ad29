"""Which assumptions of a leaf concern a cell."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from obert_sweeps.catalogue.cell import METHODS, MODELS, TASKS
from obert_sweeps.catalogue.tables import cell_named
from obert_sweeps.plan.assumed import concerning

CONF = Path(__file__).parents[2] / "conf"
LEAVES = sorted([*(CONF / "schedule").glob("*.yaml"), *(CONF / "method").glob("*.yaml")])
NAMES = {*METHODS, *MODELS, *TASKS, "unstructured", "block4", "2of4"}
CELL = cell_named("t5/sst2/bert_base/magnitude/90")


@pytest.mark.parametrize(
    ("names", "counts"),
    [
        (["unstructured"], True),
        (["2of4", "block4"], False),
        (["qnli", "sst2"], True),
        (["bert_large"], False),
        (["magnitude"], True),
    ],
)
def test_a_reason_concerns_the_cells_that_it_names(names: list[str], counts: bool) -> None:
    found = concerning({"all": "why", "some": {"for": names, "why": "because"}}, CELL)
    assert found == ({"all": "why", "some": "because"} if counts else {"all": "why"})


def test_what_a_schedule_gives_is_not_assumed() -> None:
    assumed = {"size.2of4": "one", "size": "two", "sizes": "three"}
    assert concerning(assumed, CELL, given=["size"]) == {"sizes": "three"}
    assert concerning(None, CELL) == {}


@pytest.mark.parametrize("file", LEAVES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_leaves_say_why_and_for_what_there_is(file: Path) -> None:
    leaf = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(leaf, dict)
    for reason in (leaf.get("assumed") or {}).values():
        if isinstance(reason, str):
            assert reason.strip()
        else:
            assert set(reason) == {"for", "why"} and reason["why"].strip()
            assert reason["for"] and set(reason["for"]) <= NAMES
