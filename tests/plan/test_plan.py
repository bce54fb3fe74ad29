"""The plan against the document's structure, brute-force graph walks and a few golden ids."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from obert_sweeps.identity import digest, hashed_part
from obert_sweeps.plan.cost import encoder_weights
from obert_sweeps.plan.dag import Plan, make_plan
from obert_sweeps.request.read import read
from obert_sweeps.request.selection import select
from obert_sweeps.schema import RequestError, is_training

DENSE_SST2 = "cells=t5/sst2/bert_base/dense"
OWN = ["table=0", "task=sst2", "model=bert_base", "method=magnitude", "schedule=oneshot"]
EXISTING = "cells=['*/dense','*/magnitude/*','*/obert/*']"


def plan(*overrides: str) -> Plan:
    return make_plan(read(list(overrides)))


@pytest.fixture(scope="module")
def paper() -> Plan:
    return plan("preset=paper", EXISTING)


def test_parents_come_first_and_ids_are_hashes_of_their_identity(paper: Plan) -> None:
    seen: set[str] = set()
    for stage in paper.stages.values():
        assert set(stage.parents.values()) <= seen
        assert stage.id == digest(stage.identity)
        assert stage.identity["recipe"] == hashed_part(stage.recipe)
        seen.add(stage.id)


def test_a_cell_needs_exactly_what_its_last_stages_descend_from(paper: Plan) -> None:
    for planned in paper.selected():
        needed, waiting = set(), list(planned.finals.values())
        while waiting:
            stage = paper.stages[waiting.pop()]
            needed.add(stage.id)
            waiting += stage.parents.values()
        assert needed == set(planned.stages)


def test_a_cell_is_made_of_its_own_model_task_seed_and_sparsity(paper: Plan) -> None:
    for planned in paper.selected():
        cell, pruned = planned.cell, set()
        assert all(paper.stages[last].seed == seed for seed, last in planned.finals.items())
        waiting = list(planned.finals.values())
        while waiting:
            stage = paper.stages[waiting.pop()]
            assert stage.recipe["model"]["name"] == cell.model
            assert stage.recipe["task"]["name"] in (cell.task, "mlm")
            pruned.add(tuple(stage.recipe.get("sparsity", {}).values()))
            if stage.recipe["kind"] in ("export", "benchmark"):  # which would be measured as dense
                target = {"pattern": cell.pattern, "level": cell.sparsity}
                assert stage.recipe["sparsity"] == target
            waiting += [i for role, i in stage.parents.items() if role != "against"]
        assert pruned - {(), ("dense", 0.0)} == {(cell.pattern, cell.sparsity)} - {("dense", 0.0)}


def test_tables_4_and_5_share_a_dense_stage_and_tables_2_and_3_do_not(paper: Plan) -> None:
    cells = paper.cells
    for task in ("sst2", "qnli"):
        assert (
            cells[f"t4/{task}/bert_base/dense"].finals == cells[f"t5/{task}/bert_base/dense"].finals
        )
    two, three = (set(cells[f"t{t}/squad/bert_large/dense"].finals.values()) for t in (2, 3))
    assert not two & three


def test_table_5_obert_is_one_upstream_model_transferred_without_distillation(paper: Plan) -> None:
    upstreams = set()
    for planned in paper.selected():
        if planned.cell.table in (4, 5) and planned.cell.method == "obert":
            final = paper.stages[planned.finals[42]]
            upstreams.add(final.parents["start"])
            distil = final.recipe["training"]["distill"]
            expected = {"hardness": 1.0, "temperature": 5.5} if planned.cell.table == 4 else None
            assert distil == expected
            assert ("teacher" in final.parents) == (planned.cell.table == 4)
    assert len(upstreams) == 1
    upstream = paper.stages[upstreams.pop()]
    assert upstream.recipe["task"]["name"] == "mlm"
    assert upstream.recipe["sparsity"] == {"pattern": "unstructured", "level": 0.9}
    assert upstream.recipe["method"]["num_grads"] == 1024
    assert upstream.parents["teacher"] == upstream.parents["start"]


def test_students_of_one_teacher_share_its_logits_and_no_id_tells_of_them(paper: Plan) -> None:
    off = plan("preset=paper", EXISTING, "cluster.teacher_logits=each_step")
    asking = {i: s for i, s in paper.stages.items() if s.recipe["kind"] == "teacher_logits"}
    assert asking and paper.stages.keys() - off.stages.keys() == asking.keys()
    order = list(paper.stages)
    for name, stage in off.stages.items():
        ours = paper.stages[name]
        assert "logits" not in stage.parents
        if "teacher" not in stage.parents or stage.recipe["task"]["name"] == "mlm":
            assert ours.parents == stage.parents
            continue
        logits = ours.parents["logits"]
        assert ours.parents == {**stage.parents, "logits": logits}
        assert paper.stages[logits].parents == {"teacher": stage.parents["teacher"]}
        assert order.index(logits) < order.index(name)
        assert ours.cost["flops"] < stage.cost["flops"]
    users = Counter(s.parents["logits"] for s in paper.stages.values() if "logits" in s.parents)
    assert users.keys() == asking.keys() and max(users.values()) > 1


def test_seeds_vary_results_and_neither_teachers_nor_upstream(paper: Plan) -> None:
    assert paper.seeds == [42, 3407, 54321]
    one = paper.cells["t4/sst2/bert_base/obert/90"]
    roles = Counter(paper.stages[i].tags["role"] for i in one.stages)
    once = ("upstream_dense", "upstream", "dense", "teacher_logits")
    assert roles == dict.fromkeys(once, 1) | {"transfer": 3}
    varied = plan("preset=paper", "vary=all", "cells=t4/sst2/bert_base/obert/90")
    roles = Counter(s.tags["role"] for s in varied.wanted())
    assert roles == dict.fromkeys((*once, "transfer"), 3)
    based = plan("preset=paper", "base_seed=7", "seeds=1", "cells=t4/sst2/bert_base/obert/90")
    seeds = {s.tags["role"]: s.seed for s in based.wanted()}
    assert seeds == dict.fromkeys(once, 7) | {"transfer": 42}
    demo = plan("preset=demo", "vary=all", "seeds=[42,7]", DENSE_SST2)
    pairs = {(s.tags["role"], s.seed) for s in demo.wanted()}
    assert pairs == {(role, seed) for role in ("pretrain", "dense") for seed in (42, 7)}


def test_one_shot_starts_from_the_dense_model_of_its_own_table(paper: Plan) -> None:
    dense = paper.cells["t1/squad/bert_base/dense"].finals[42]
    for variant in ("magnitude/2of4", "obert/2of4"):
        final = paper.stages[paper.cells[f"t1/squad/bert_base/{variant}"].finals[42]]
        assert final.parents == {"start": dense}
        assert final.recipe["training"]["epochs"] == 0
    recovered = paper.stages[paper.cells["t1/squad/bert_base/obert/2of4-1epoch"].finals[42]]
    assert recovered.parents["start"] == paper.cells["t1/squad/bert_base/obert/2of4"].finals[42]
    assert recovered.recipe["training"]["epochs"] == 1


def test_published_hyper_parameters_reach_the_recipes(paper: Plan) -> None:
    def last(cell: str) -> dict:
        """The recipe that the cell's method prunes with."""
        recipes = [paper.stages[stage].recipe for stage in paper.cells[cell].stages]
        return [r for r in recipes if "training" in r and r["sparsity"]["pattern"] != "dense"][-1]

    large = last("t2/squad/bert_large/obert/95")
    assert large["sparsity"]["level"] == 0.95
    assert large["training"]["distill"] == {"hardness": 1.0, "temperature": 2.0}
    pruning = large["training"]["pruning"]
    assert {k: v for k, v in pruning.items() if v is not None} == {
        "start": 2,
        "end": 26,
        "every": 4,
        "initial": 0.7,
    }
    assert (large["method"]["grad_batch_size"], large["method"]["damp"]) == (8, 1e-7)
    compound = last("t3/squad/bert_large/obert/95")
    assert compound["sparsity"]["pattern"] == "block4"
    assert compound["method"]["damp"] == 1e-8
    mobile = last("t3/squad/mobilebert/obert/50")
    assert mobile["training"]["keep_layers"] == 14
    assert mobile["method"]["num_grads"] == 512
    assert mobile["training"]["distill"]["temperature"] == 5.5


def test_mixed_precision_is_the_same_plan_at_a_seventh_of_the_cost(paper: Plan) -> None:
    mixed = plan("preset=paper_bf16", EXISTING)
    assert [c.cell for c in mixed.selected()] == [c.cell for c in paper.selected()]
    assert not any(cell.stand_in for cell in mixed.selected())
    roles = {"fp32": set[str](), "bf16": set[str]()}
    for stage in mixed.stages.values():
        if is_training(stage.recipe):
            roles[stage.recipe["training"]["precision"]].add(stage.tags["role"])
    assert roles["fp32"] == {"qat"} and "upstream" in roles["bf16"]
    hours = [sum(s.cost["gpu_hours"] for s in p.stages.values()) for p in (mixed, paper)]
    assert 1 / 7 < hours[0] / hours[1] < 1 / 6


def test_what_no_source_gives_is_said_of_each_cell_that_takes_it(paper: Plan) -> None:
    assumed = {c.cell.id: set(c.assumed) for c in paper.selected()}

    def taken(key: str) -> set[str]:
        return {name for name, keys in assumed.items() if key in keys}

    of_2of4 = {name for name in assumed if "2of4" in name}
    assert taken("method.scope") == {n for n in assumed if "/magnitude/90" in n}  # none for 2:4
    assert taken("oneshot.sparsity") == of_2of4
    assert taken("method.fisher_block_size") == {n for n in of_2of4 if "obert" in n}
    large = {n for n in assumed if n.startswith(("t2", "t3")) and not n.endswith("dense")}
    assert taken("dense_squad.dense") == large  # their teacher's, which no source gives for them
    assert taken("dense") == {"t2/squad/bert_large/dense"}  # and BERT-base's is printed
    assert not assumed["t1/squad/bert_base/dense"] and not assumed["t4/sst2/bert_base/dense"]
    in_table_5 = {n for n in assumed if n.startswith("t5") and n.endswith("dense")}
    assert taken("training") == in_table_5


def test_what_follows_a_pruning_stage_is_named_by_what_it_keeps(paper: Plan) -> None:
    def names(cell: str) -> list[str]:
        stages = (paper.stages[i] for i in paper.cells[cell].stages)
        return [" ".join(s.tags[k] for k in ("role", "method", "sparsity")) for s in stages]

    assert names("t3/squad/bert_large/obert/95")[-4:] == [
        "compound_large obert block4 95", "qat obert block4 95", "export obert block4 95",
        "benchmark obert block4 95",
    ]  # fmt: skip
    assert "transfer obert unstructured 90" in names("t5/sst2/bert_base/obert/90")
    assert set(names("t5/sst2/bert_base/dense")) == {"dense dense dense"}


def test_a_choice_narrows_and_its_overrides_reach_those_cells_alone() -> None:
    plain = plan("preset=paper", "task=sst2", "seeds=1", EXISTING)
    changed = plan("preset=paper", "task=sst2", "method=obert", "method.damp=1e-6", "seeds=1")
    assert {c.cell.method for c in changed.selected()} == {"obert"}
    stand_ins = {c.cell.method for c in changed.cells.values() if c.stand_in}
    assert stand_ins == {"obert"}  # and not the dense models beside them
    pruned = [s for s in changed.wanted() if "num_grads" in s.recipe.get("method", {})]
    assert pruned and all(s.recipe["method"]["damp"] == 1e-6 for s in pruned)
    dense_before = {s.id for s in plain.wanted() if s.tags["role"] == "dense"}
    assert {s.id for s in changed.wanted() if s.tags["role"] == "dense"} <= dense_before


def test_a_glob_is_of_the_whole_id_within_the_tables_asked_for() -> None:
    globs = "cells=['t1/*/obert/2of4','t?/qnli/*/obert/90','*/2','T2/*']"
    assert [cell.id for cell in select(read([globs, "table=[5,1]"]))] == [
        "t1/squad/bert_base/obert/2of4",  # and not 2of4-1epoch
        "t5/qnli/bert_base/obert/90",  # and not table 4's
    ]


def test_own_cells_are_told_apart_by_what_was_said_of_them() -> None:
    own = ["table=0", "task=sst2", "model=bert_base", "method=magnitude", "sparsity=unstructured",
           "sparsity.level=0.6"]  # fmt: skip

    def settings(*more: str) -> tuple[str, ...]:
        (cell,) = select(read([*own, *more]))
        assert cell.id == "t0/sst2/bert_base/magnitude/60"
        return cell.settings

    plain = settings("schedule=oneshot", "store=elsewhere", "tracker=none", "seeds=2")
    assert plain == settings("cluster=inline", "schedule=oneshot") == ("schedule=oneshot",)
    assert "sparsity=block4" in settings("sparsity=block4", "schedule=oneshot")  # as its id is
    words = ["base_seed=7", "budget.max_epochs=2", "comparison=equal_budget", "data_root=elsewhere"]
    words += ["distill=kd_t2", "method.scope=tensor", "preset=small", "schedule=gradual"]
    words += ["task.max_length=64", "vary=all"]
    assert settings(*words) == tuple(words)


def test_own_cells_that_differ_in_the_pattern_alone_are_told_apart() -> None:
    own = ["table=0", "task=sst2", "model=bert_base", "method=obert", "schedule=oneshot"]

    def cell(*more: str) -> tuple[str, tuple[str, ...]]:
        (found,) = select(read([*own, *more]))
        return found.id.rpartition("/")[2], found.settings

    single = cell("sparsity=unstructured", "sparsity.level=0.85")
    assert single == ("85", ("schedule=oneshot",))
    assert cell("sparsity=block4", "sparsity.level=0.85") == (
        "85",
        ("schedule=oneshot", "sparsity=block4"),
    )
    assert cell("sparsity=2of4") == ("2of4", ("schedule=oneshot",))


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        (["schedule=dense"], "schedule=dense prunes nothing.*schedule=oneshot"),
        (["schedule=pretrain"], "ends with training on mlm.*no sst2 model"),
        (["schedule=oneshot", "schedule.stages.oneshot.pruning=null"], "prunes nothing"),
    ],
)
def test_an_own_cell_must_be_the_model_it_is_called(schedule: list[str], says: str) -> None:
    own = ["table=0", "task=sst2", "model=bert_base"]
    with pytest.raises(RequestError, match=says):
        plan(*own, "method=obert", "sparsity=unstructured", *schedule)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["table=5", "task=sst2", "data_root=/nowhere", EXISTING], "not found"),
        (["preset=small", "table=1"], "model.path=DIR"),
    ],
)
def test_what_is_not_at_hand_blocks_every_cell_and_says_what_to_type(
    words: list[str], says: str
) -> None:
    cells = plan(*words).selected()
    assert cells and all(says in str(cell.blocked) for cell in cells)


@pytest.mark.parametrize(
    "own",
    [
        ["method=dense"],
        ["task=mlm", "method=obert", "sparsity=dense", "schedule=pretrain"],
        ["method=obert", "schedule=upstream_transfer"],
        ["method=obert", "schedule=upstream_transfer", "preset=paper_published_upstream"],
        ["method=obert", "sparsity=2of4", "schedule=oneshot_1epoch"],
    ],
)
def test_an_own_cell_may_keep_the_masks_of_an_earlier_stage(own: list[str]) -> None:
    task = [] if any("task=" in word for word in own) else ["task=sst2"]
    planned = plan("table=0", *task, "model=bert_base", "seeds=1", *own)
    (cell,) = planned.selected()
    told = planned.stages[cell.finals[42]].tags["sparsity"]
    assert (told == "dense") == (cell.cell.pattern == "dense")


def test_what_is_no_part_of_a_result_is_no_part_of_the_id() -> None:
    def ids(*overrides: str) -> list[str]:
        return [s.id for s in plan("table=1", *overrides).wanted()]

    assert ids() == ids("store=elsewhere", "tracker=none", "cluster=inline")
    assert ids() == ids("cluster.workers_per_stage=4", "cluster.cpus_per_stage=2")
    assert ids() != ids("base_seed=7")


def test_every_worker_has_the_resources_of_a_stage_and_they_share_its_time() -> None:
    one, four = (
        plan("cells=t5/sst2/bert_base/dense", f"cluster.workers_per_stage={workers}").wanted()[-1]
        for workers in (1, 4)
    )
    assert (one.workers, four.workers) == (1, 4) and one.resources == four.resources
    assert four.cost["seconds"] - 1 == pytest.approx((one.cost["seconds"] - 1) / 4)
    assert four.cost["gpu_hours"] == one.cost["gpu_hours"]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["table=6"], "table=6"),
        (["table=1.0"], "table=1.0"),
        (["table=null"], "table=null"),
        (["table=true"], "table=true"),
        (["table=[]"], "table=[]"),
        (["cells=5"], "cells=5"),
        (["seeds=1.5"], "seeds=1.5"),
        (["seeds=true"], "neither a whole number"),
        (["seeds=[true]"], "neither a whole number"),
        (["seeds=x"], "seeds=x"),
        (["seeds=[42,7,42]"], "Use seeds=[42,7]."),
        (["preset.seeds=[42,42]"], "Use preset.seeds=[42]."),
        (["preset.seeds=[]"], "preset.seeds=[42]"),
        (["table=1", "cluster=inline", "cluster.workers_per_stage=2"], "Use cluster=local"),
        (
            ["table=1", "cluster.workers_per_stage=2", "cluster.gpus_per_stage=0.5"],
            "do not share a GPU",
        ),
        (["cells=t9/*"], "obert-sweeps ls"),
        (["table=5", "model=mobilebert"], "table=0"),
        (["table=1", "schedule=gradual"], "table=0"),
        (["table=0", "task=sst2"], "needs"),
        (["table=0", "task=sst2", "model=bert_base", "method=obert"], "schedule"),
        (["cells=*/dense", "budget.max_fisher_gradients=4"], "touches no stage"),
        (["table=1", "task=squad", "task.data=other"], "data_root"),
        ([*OWN, "sparsity=unstructured", "sparsity.level=1.5"], "impossible"),
        (["table=5", "sparsity=unstructured", "sparsity.level=0.5"], "table=0 … sparsity=unstr"),
        (["table=1", "sparsity.level=0.85"], "table=0 … sparsity=unstructured sparsity.level=0.85"),
        ([*OWN, "sparsity=unstructured", "sparsity.pattern=block4"], "use sparsity= one of 2of4"),
        (["seeds=0"], "seeds=1"),
        (["table=1", "preset.stages.transfer.epochs=2"], "touches no stage"),
        (["table=1", "preset.stages.dens.keep=best"], "'preset.stages.dens.keep=best' touches no"),
        (["table=1", "preset.stages.dense.kep=best"], "preset.stages.dense: 'kep' is refused"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(RequestError) as error:
        plan(*overrides)
    assert says in str(error.value)


def test_own_rows_are_never_replaced_by_generated_ones() -> None:
    request = read([*OWN, "sparsity=unstructured", "sparsity.level=0.5"])
    request.leaves["task"]["sst2"]["source"] = "folder"
    with pytest.raises(RequestError, match="sst2 reads a folder and none is named.*data_root=DIR"):
        make_plan(request)
    request.leaves["task"]["sst2"]["folder"] = "/nowhere/sst2"
    (cell,) = make_plan(request).selected()
    assert "/nowhere/sst2/train.parquet does not exist" in str(cell.blocked)


def test_pretraining_without_texts_is_refused_with_the_way_past_it(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        (tmp_path / "own").mkdir(exist_ok=True)
        rows = pa.table({"sentence": ["good", "bad"], "label": [1, 0]})
        pq.write_table(rows, tmp_path / "own" / f"{split}.parquet")
    own = [*OWN, "task.data=own", f"data_root={tmp_path}"]
    (blocked,) = plan(*own).selected()
    assert "sst2/train.parquet" in str(blocked.blocked)  # what was looked for
    assert "preset.pretrain=null" in str(blocked.blocked)
    (planned,) = plan(*own, "preset.pretrain=null").selected()
    assert len(planned.stages) == 2


def test_what_a_preset_names_goes_first_with_all_it_needs() -> None:
    planned = plan("cells=['t1/*/magnitude/*','t5/sst2/*/magnitude/*']")
    (one,) = (c for c in planned.selected() if c.cell.table == 1)
    assert planned.first == set(one.stages) < {s.id for s in planned.wanted()}


def test_a_dense_model_is_planned_to_compare_with_and_not_run() -> None:
    planned = plan("cells=t5/sst2/bert_base/magnitude/90", "seeds=[42,7]")
    dense = planned.cells["t5/sst2/bert_base/dense"]
    assert not dense.selected and set(dense.finals) == {42, 7}
    assert not {s.id for s in planned.wanted()} & set(dense.finals.values())


CHANGED = "t5/sst2/bert_base/obert/90"


@pytest.mark.parametrize(
    ("said", "settings"),
    [
        (["method=obert", "method.damp=0.1"], ["method.damp=0.1"]),
        (["task=sst2", "task.max_length=64"], ["task.max_length=64"]),
        (["task=sst2", "task.source=generated"], ["task.source=generated"]),
        (["task=sst2", "task.revision=abc", "model=bert_base", "model.revision=abc"], []),
        (["preset.stages.transfer.epochs=2"], ["preset.stages.transfer.epochs=2"]),
        (["preset.seeds=[7]", "store=elsewhere", "cluster.cpus_per_stage=2"], []),
    ],
)
def test_a_cell_of_the_document_that_was_changed_is_a_stand_in(
    said: list[str], settings: list[str]
) -> None:
    (cell,) = plan("preset=paper", f"cells={CHANGED}", *said).selected()
    assert (list(cell.cell.settings), cell.stand_in) == (settings, bool(settings))


def test_a_model_scored_on_the_rows_that_it_learnt_from_is_a_stand_in() -> None:
    said = ["cells=t5/mnli/bert_base/dense", "task=mnli", "task.hub_splits={validation:train}"]
    (cell,) = plan("preset=paper", "seeds=1", *said).selected()
    assert cell.stand_in and cell.cell.settings == (said[-1],)


def test_a_change_is_one_of_the_cells_that_it_touches() -> None:
    said = "preset.stages.transfer.epochs=2"
    found = plan("preset=paper", "cells='t5/sst2/*'", "task=sst2", said, "seeds=1").selected()
    assert [c.cell.id for c in found if c.stand_in] == [CHANGED]
    assert [c.cell.id for c in found if c.cell.settings] == [CHANGED]
    mine = plan("preset=paper", *OWN, "seeds=1", "preset.stages.dense.epochs=1").selected()
    assert not any(c.stand_in for c in mine)


@pytest.mark.parametrize(
    ("said", "seeds"),
    [("seeds=3", [42, 43, 44]), ("preset.seeds=[42,43]", [42, 43]), ("seeds=[7,42]", [7, 42])],
)
def test_so_many_different_seeds(said: str, seeds: list[int]) -> None:
    assert plan(DENSE_SST2, said).seeds == seeds
    assert plan(DENSE_SST2, "preset.seeds=[42,43]", "seeds=4").seeds == [42, 43, 44, 45]


def test_a_budget_in_which_the_pruning_steps_do_not_fit_is_refused() -> None:
    with pytest.raises(RequestError) as error:
        plan("cells=t5/mrpc/bert_base/magnitude/90", "preset=paper", "budget.max_epochs=0.05")
    assert "pruning" in str(error.value)


def test_missing_data_block_a_cell_and_leave_the_others(shared_dir) -> None:
    small = plan(
        "preset=small",
        f"data_root={shared_dir / 'data'}",
        "model=bert_base",
        f"model.path={shared_dir / 'models' / 'minilm-l6'}",
        "cells=['t5/sst2/*/dense','t5/cola/*/dense','t5/stsb/*/dense']",
    )
    blocked = {c.cell.task: c.blocked for c in small.selected()}
    assert blocked["sst2"] is None and blocked["stsb"] is None
    assert "cola" in blocked["cola"] and "not found" in blocked["cola"]


def test_how_rows_are_dealt_says_nothing_of_a_stage_that_takes_no_batch() -> None:
    def last(group: int) -> str:
        cell = "t1/squad/bert_base/magnitude/2of4"
        word = f"preset.stages.oneshot.group_by_length={group}"
        planned = plan("preset=demo", "seeds=1", f"cells={cell}", word)
        return next(iter(planned.cells[cell].finals.values()))

    assert last(0) == last(50)


def test_encoder_weights_are_the_published_counts() -> None:
    base = {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072}
    large = {"num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096}
    mobile = {"num_hidden_layers": 24, "hidden_size": 512, "intermediate_size": 512}
    mobile["intra_bottleneck_size"] = 128
    assert encoder_weights(base) == 84_934_656
    assert encoder_weights(large) == 301_989_888
    assert encoder_weights(mobile) == 20_054_016
    assert encoder_weights(mobile, 14) == 11_698_176


def test_ids_do_not_change_by_accident() -> None:
    """Golden: a changed default re-runs what depends on it. Change these on purpose only."""
    planned = plan("preset=paper", "seeds=1", EXISTING)
    golden = {
        "t1/squad/bert_base/obert/2of4": "05366e9324ca4ffd",
        "t2/squad/bert_large/obert/90": "4087d7f5b6c64930",
        "t4/sst2/bert_base/obert/90": "d0768ffa99800eaf",
        "t5/mrpc/bert_base/magnitude/90": "2407d20949bb7339",
    }
    assert {cell: planned.cells[cell].finals[42] for cell in golden} == golden
