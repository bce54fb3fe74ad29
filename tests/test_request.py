"""The command line's grammar: what is refused, and what the refusal says to type."""

from __future__ import annotations

import pytest

from obert_sweeps.request import read
from obert_sweeps.schema import RequestError


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["tabel=5"], "tabel"),
        (["task=sst3"], "sst2"),
        (["sparsity=90"], "unstructured"),
        (["task=null"], "chosen by its name"),
        (["task=sst2", "task.max_lenght=64"], "task.max_lenght"),
        (["method=[obert,magnitude]"], "cells="),
        (["task=sst2,stsb"], "cells="),
        (
            ["method=obert", "method.damp=1,2"],
            "for v in A B; do obert-sweeps run table=0 … method.damp=$v",
        ),
        (["method.num_grads=4"], "method="),
        (["sparsity.level=0.85"], "table=0 … sparsity=unstructured sparsity.level=0.85"),
        (["method=obert", "+method.extra=1"], "added"),
        (["method=obert", "~method.damp"], "added"),
        (["vary=some"], "vary="),
        (["format=yaml"], "format="),
        (["budget.max_epoch=1"], "budget.max_epoch"),
        (["preset.stage.dense.keep=best"], "preset.stage"),
        (["seeds=[1"], "cannot read"),
        (["preset=huge"], "demo"),
        (["budget.max_epochs=many"], "max_epochs"),
    ],
)
def test_a_wrong_request_is_refused_by_name(overrides: list[str], says: str) -> None:
    with pytest.raises(RequestError) as error:
        read(overrides)
    assert says in str(error.value)


def test_a_preset_takes_what_it_does_not_say_yet_with_or_without_a_plus() -> None:
    said = ["stages.dense.keep=best", "model.bert_base.config.vocab_size=300"]
    plain = read([f"preset.{word}" for word in said]).request.preset
    assert plain == read([f"+preset.{said[0]}", f"++preset.{said[1]}"]).request.preset
    assert plain.stages.dense.keep == "best" and plain.stages.dense.epochs == 3
    assert plain.model.bert_base.config.vocab_size == 300


def test_leaves_hold_every_file_of_every_group(project_root) -> None:
    loaded = read([])
    for group, leaves in loaded.leaves.items():
        files = {p.stem for p in (project_root / "conf" / group).glob("*.yaml")}
        assert set(leaves) == files


def test_groups_are_empty_by_default() -> None:
    loaded = read(["table=5"])
    assert loaded.choices == {}
    assert all(loaded.request[g] is None for g in ("task", "model", "method", "sparsity"))
