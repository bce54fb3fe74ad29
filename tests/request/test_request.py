"""The command line's grammar: what is refused, and what the refusal says to type."""

from __future__ import annotations

import pytest

from obert_sweeps.request.read import read
from obert_sweeps.schema import RequestError


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["tabel=5"], "tabel'. Did you mean table?"),
        (["seed=3"], "Did you mean seeds?"),
        (["level=0.6"], "Did you mean sparsity.level?"),
        (["method=obert", "method.dmap=1"], "Did you mean method.damp?"),
        (["method=obert", "method.dmap=1"], "plan --cfg job method=obert"),
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
        (["budget.max_epochs=many"], "'budget.max_epochs=many': it must be a number"),
        (["base_seed=1.5"], "a whole number"),
        (["confirm=x"], "true or false"),
        (["store=null"], "not null"),
        (["preset.stand_in=false"], "conf/preset/"),
        (["preset.name=paper"], "conf/preset/"),
        (["preset={stand_in:false}"], "a preset is chosen by its name"),
        (["preset@preset=paper"], "touches no stage"),
        (["leaf={method:{}}"], "touches no stage"),
        (["cluster.memory_gb=x"], "cluster.memory_gb=x: it must be a number"),
        (["hydra.sweeper.params.x=1"], "not Hydra's"),
        (["store=${store}"], "store: Recursive"),
        (["store=???"], "store has no value"),
        (["cells=???"], "cells has no value"),
        (["store="], "Use store=DIR"),
        (["data_root=''"], "Use data_root=DIR"),
        (["stage="], "Use stage=ID"),
        (["foo"], "Use key=value"),
        (["cells=é"], """"cells='é'\""""),
        (["cells=a;b"], """"cells='a;b'\""""),
        (["cells=a,b"], """"cells='a,b'\""""),
        (["cells=a=b"], """"cells='a=b'\""""),
    ],
)
def test_a_wrong_request_is_refused_by_name(overrides: list[str], says: str) -> None:
    with pytest.raises(RequestError) as error:
        read(overrides)
    assert says in str(error.value)


@pytest.mark.parametrize("group", ["preset", "cluster", "tracker"])
def test_one_preset_one_cluster_one_tracker(group: str) -> None:
    """Two would be merged in silence, and without one a stand-in is no longer known as one."""
    for word in (f"{group}=[demo,paper]", f"~{group}", f"+{group}=demo", f"++{group}=demo",
                 f"{group}=null", f"{group}.x=1"):  # fmt: skip
        with pytest.raises(RequestError, match=group):
            read([word])


@pytest.mark.parametrize(
    "word",
    ["+x=1", "++x=1", "+cluster.nope=1", "+tracker.foo=1", "+leaf.method.obert.num_grads=3",
     "~table", "~base_seed", "~budget", "~store", "++table=1", "~preset.stages.dense.epochs"],
)  # fmt: skip
def test_keys_are_neither_added_nor_removed(word: str) -> None:
    with pytest.raises(RequestError, match="not added or removed"):
        read([word])


def test_ids_and_paths_are_taken_as_typed() -> None:
    words = ["store", "stage", "data_root", "model.path", "preset.model.bert_base.path"]
    loaded = read(["model=bert_base", *(f"{word}=12e4" for word in words)])
    request = loaded.request
    assert (request.store, request.stage, request.data_root) == ("12e4", "12e4", "12e4")
    assert request.preset.model.bert_base.path == "12e4"
    assert [o.value() for o in loaded.leaf_overrides["model"]] == ["12e4"]


def test_quotes_for_hydra_null_and_interpolation_keep_their_sense(monkeypatch) -> None:
    monkeypatch.setenv("SHARED", "/shared")
    request = read(["store='é'", "data_root=null", "stage=null"]).request
    assert (request.store, request.data_root, request.stage) == ("é", None, None)
    assert read(["store=${oc.env:SHARED}/runs"]).request.store == "/shared/runs"


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


def test_a_leaf_of_one_s_own_may_lie_in_a_folder_of_one_s_own(tmp_path, project_root) -> None:
    folder = tmp_path / "conf" / "method"
    folder.mkdir(parents=True)
    text = (project_root / "conf" / "method" / "random.yaml").read_text()
    (folder / "mine.yaml").write_text(text.replace("method.random.Random", "mine.Mine"))
    search = f"hydra.searchpath=[file://{tmp_path}/conf]"
    loaded = read(["table=0", "method=mine", "method.scope=tensor", search])
    assert loaded.leaves["method"]["mine"]["_target_"].endswith("mine.Mine")
    assert set(loaded.leaves["method"]) == set(read([]).leaves["method"]) | {"mine"}
    with pytest.raises(RequestError, match=r"Did you mean method\.scope") as refused:
        read(["table=0", "method=mine", "method.scop=tensor", search])
    assert search in str(refused.value)
