"""The report from a plan and a store that exist only in memory."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from report.fake_sweep import FakeCellPlan, sweep

from obert_sweeps.catalogue.cell import Cell
from obert_sweeps.report import words
from obert_sweeps.report.build import build
from obert_sweeps.report.words.verdicts import SIGNS

SMALL = {1: -0.2, 2: 0.0, 3: 0.2}  # s = 0.2: an interval of ±0.67, within the margin


def by_id(report):
    return {entry["id"]: entry for entry in report["cells"]}


def test_a_store_that_holds_the_document_reproduces_it():
    fake = sweep()
    fake.finish_as_published(SMALL)
    report = build(fake, fake)
    keys = "request origin cells claims inference audit cost environment neighbours".split()
    assert list(report) == keys
    cells = by_id(report)
    assert len(cells) == 69
    odd = {name for name, entry in cells.items() if entry["verdict"] != "reproduced"}
    assert odd == {"t2/squad/bert_large/prune_ofa/95"}
    assert cells["t2/squad/bert_large/prune_ofa/95"]["verdict"] == "unpublished"
    odd = {claim["id"] for claim in report["claims"] if claim["verdict"] != "held"}
    assert odd == {"t5/platon-is-tuned"}  # the fake's recipes are the same for all tasks
    assert not any(claim["stand_in"] for claim in report["claims"])
    for entry in cells.values():
        assert entry["seeds"] == [1, 2, 3]
        if entry["rank"] is not None and entry["published_rank"] is not None:
            assert (entry["rank"], entry["rank_of"]) == (
                entry["published_rank"],
                entry["published_rank_of"],
            )
    json.dumps(report, allow_nan=False)


def test_one_entry_in_numbers():
    fake = sweep()
    for seed, value in ((1, 90.0), (2, 91.0), (3, 92.0)):
        result = fake.finish("t5/sst2/bert_base/obert/90", seed, accuracy=value)
        result["final_metrics"] = {"accuracy": value - 0.5}
        fake.finish("t5/sst2/bert_base/dense", seed, accuracy=94.0)
    entry = by_id(build(fake, fake))["t5/sst2/bert_base/obert/90"]
    assert entry["measured"] == {"accuracy": 91.0} and entry["sd"] == {"accuracy": 1.0}
    assert entry["published"] == {"accuracy": 92.0}
    assert entry["recovery"] == pytest.approx(91 / 94)
    assert entry["published_recovery"] == pytest.approx(92.0 / 92.7)
    assert entry["by_metric"]["accuracy"]["difference"] == -1.0
    assert entry["verdict"] == "undecided" and "wider than the margin" in entry["reason"]
    assert entry["final_epoch"] == {"accuracy": 90.5}
    assert (entry["published_rank"], entry["published_rank_of"]) == (1, 6)
    assert entry["rank"] is None  # alone in its row so far
    assert entry["stages"] == fake.cells[entry["id"]].stages


def test_seeds_that_start_from_one_dense_model_recover_that_one():
    """All seeds of one-shot pruning start from the dense run of seed 1; runs 2 and 3 are others."""
    fake = sweep()
    dense, pruned = "t1/squad/bert_base/dense", "t1/squad/bert_base/obert/2of4-1epoch"
    for seed, (whole, left) in {1: (80.0, 76.0), 2: (90.0, 77.0), 3: (91.0, 78.0)}.items():
        fake.finish(dense, seed, f1=whole, em=whole)
        fake.finish(pruned, seed, f1=left, em=left)
    plan = fake.cells[pruned]
    plan.stages = [fake.cells[dense].finals[1], *plan.finals.values()]
    for final in plan.finals.values():
        fake.stages[final].parents["start"] = fake.cells[dense].finals[1]
    report = build(fake, fake)
    assert by_id(report)[pruned]["recovery"] == pytest.approx(77 / 80)
    claim = next(c for c in report["claims"] if c["id"] == "t1/one-epoch-recovers")
    (f1, em) = claim["evidence"]
    assert f1["measured"] == em["measured"] == [77.0, 80.0]
    assert not f1["paired"] and f1["seeds"] == [3, 1]


def test_a_missing_seed_is_missing_on_both_sides_of_a_recovery():
    fake = sweep()
    dense, pruned = "t5/sst2/bert_base/dense", "t5/sst2/bert_base/obert/90"
    for seed, accuracy in {1: 90.0, 2: 80.0, 3: 70.0}.items():
        fake.finish(dense, seed, accuracy=accuracy)
    fake.finish(pruned, 1, accuracy=81.0)
    entry = by_id(build(fake, fake))[pruned]
    assert (entry["recovery"], entry["dense"]) == (81 / 90, 90.0)  # not 81 of a mean of 80
    fake.finish(pruned, 3, accuracy=63.0)
    assert by_id(build(fake, fake))[pruned]["recovery"] == pytest.approx((81 + 63) / (90 + 70))
    del fake.results[fake.cells[dense].finals[1]], fake.results[fake.cells[dense].finals[3]]
    assert by_id(build(fake, fake))[pruned]["recovery"] == 72 / 80  # of what there is


@pytest.mark.parametrize("stand_in", [True, False])
def test_how_published_models_vary_says_nothing_of_stand_ins(stand_in):
    """oBERT's one seed has the printed deviation, unless it is a stand-in's."""
    fake = sweep(stand_in=stand_in)
    fake.finish("t5/qqp/bert_base/obert/90", 1, accuracy=90.0, f1=90.0)
    for seed in (1, 2, 3):
        value = 92.0 + 0.1 * seed
        fake.finish("t5/qqp/bert_base/platon/90", seed, accuracy=value, f1=value)
    claim = next(c for c in build(fake, fake)["claims"] if c["id"] == "t5/obert-beats-platon")
    evidence = next(e for e in claim["evidence"] if "/qqp/" in e["better"])
    assert (evidence["verdict"], evidence["leaning"]) == (
        "undecided" if stand_in else "broken",
        "broken",
    )


def test_a_diverged_seed_leaves_no_recovery_no_rank_and_no_claim():
    """One of three seeds did well: what survived is no result of the method."""
    fake = sweep()
    fake.finish_as_published({1: -0.1, 2: 0.0, 3: 0.1})
    name = "t5/sst2/bert_base/obert/90"
    for seed in (2, 3):
        fake.finish(name, seed, status="not_converged")
    report = build(fake, fake)
    entry = by_id(report)[name]
    assert (entry["verdict"], entry["recovery"]) == ("not_converged", None)
    assert (entry["rank"], entry["rank_of"]) == (6, 6)
    claim = next(c for c in report["claims"] if c["id"] == "t5/sst2/best")
    assert claim["verdict"] == "undecided" and claim["leaning"] is None


def test_speeds_of_another_machine_are_shown_and_decide_nothing():
    fake = sweep()
    fake.finish_as_published(SMALL)
    name = "t3/squad/bert_large/obert/95"
    for seed in (1, 2, 3):
        published = dict(fake.cells[name].cell.published)
        fake.finish(name, seed, **(published | {"throughput": 13.7, "f1": 90.2 + 0.1 * seed}))
    entry = by_id(build(fake, fake))[name]
    assert entry["verdict"] == "reproduced" and entry["measured"]["throughput"] < 14
    assert set(entry["by_metric"]) == {"f1", "file_mb", "compression"}


def test_stand_ins_show_recovery_and_rank_and_are_never_reproduced():
    fake = sweep(seeds=(1,), stand_in=True)
    fake.finish_as_published({1: 0.0})
    fake.finish("t5/sst2/bert_base/obert/90", 1, accuracy=70.0)
    report = build(fake, fake)
    cells = by_id(report)
    assert {entry["verdict"] for entry in cells.values()} == {"stand_in"}
    entry = cells["t5/sst2/bert_base/obert/90"]
    assert entry["recovery"] == pytest.approx(70 / 92.7) and entry["by_metric"] == {}
    assert (entry["rank"], entry["published_rank"]) == (6, 1)
    assert all(
        claim["stand_in"]
        for claim in report["claims"]
        if claim["relation"] in ("greater", "recovers")
    )
    diverged = cells["t5/cola/bert_base/l0/90"]
    assert diverged["diverged"] == [1] and diverged["recovery"] is None
    assert (diverged["rank"], diverged["rank_of"]) == (3, 6)


def test_divergence_where_the_document_converges():
    fake = sweep(seeds=(1, 2))
    fake.finish("t4/sst2/bert_base/obert/90", 1, accuracy=92.0)
    fake.finish("t4/sst2/bert_base/obert/90", 2, "not_converged", accuracy=float("nan"))
    entry = by_id(build(fake, fake))["t4/sst2/bert_base/obert/90"]
    assert entry["verdict"] == "not_converged" and entry["measured"] == {"accuracy": 92.0}
    assert any("seed 2" in note for note in entry["notes"])
    final = fake.cells["t4/sst2/bert_base/obert/90"].finals
    fake.results[final[2]]["evidence"] = {"reason": "the training loss is not finite"}
    fake.results[final[1]]["remark"] = "one class is predicted for all rows"
    notes = by_id(build(fake, fake))["t4/sst2/bert_base/obert/90"]["notes"]
    assert "did not converge with seed 2; the training loss is not finite" in notes
    assert "one class is predicted for all rows" in notes


def test_failures_blocks_and_what_has_not_run():
    fake = sweep(seeds=(1, 2))
    dense, lottery = "t4/sst2/bert_base/dense", "t4/sst2/bert_base/lottery/90"
    fake.finish(dense, 1, accuracy=93.0)
    fake.finish(lottery, 1, accuracy=85.0)
    fake.failures[fake.cells[dense].finals[2]] = {"reason": "no such column", "where": "task"}
    fake.cells["t4/sst2/bert_base/prune_ofa/90"].blocked = "needs a corpus: say data_root=DIR"
    cells = by_id(build(fake, fake))
    assert cells[dense]["verdict"] == "failed" and cells[dense]["measured"] == {"accuracy": 93.0}
    assert "no such column" in cells[dense]["reason"]
    assert cells[lottery]["verdict"] == "failed"  # its second seed stands on the failed stage
    blocked = cells["t4/sst2/bert_base/prune_ofa/90"]
    assert (blocked["verdict"], blocked["reason"][:5]) == ("blocked", "needs")
    assert cells["t4/qnli/bert_base/dense"]["verdict"] == "not_run"
    assert cells["t4/qnli/bert_base/dense"]["measured"] == {}
    assert {entry["verdict"] for entry in cells.values()} <= set(SIGNS)


def test_a_failure_that_was_overcome_does_not_count():
    fake = sweep(seeds=(1,))
    name = "t4/sst2/bert_base/dense"
    fake.finish(name, 1, accuracy=93.0)
    fake.failures[fake.cells[name].finals[1]] = {"reason": "old"}
    assert by_id(build(fake, fake))[name]["verdict"] == "undecided"


def test_what_cannot_be_measured_blocks_nothing():
    fake = sweep()
    for seed, offset in SMALL.items():
        fake.finish("t1/squad/bert_base/obert/2of4", seed, f1=83.17 + offset, em=74.18 + offset)
    entry = by_id(build(fake, fake))["t1/squad/bert_base/obert/2of4"]
    assert entry["verdict"] == "reproduced"
    assert "GPU" in entry["not_measured"]["gpu_speedup"]


def test_worse_on_assumed_keys_says_so():
    fake = sweep()
    name = "t4/sst2/bert_base/obert/90"
    fake.cells[name].assumed = {"training.epochs": "no source"}
    for seed, offset in SMALL.items():
        fake.finish(name, seed, accuracy=80 + offset)
    entry = by_id(build(fake, fake))[name]
    assert (entry["verdict"], entry["label"]) == ("worse", "worse (under assumptions)")
    assert entry["assumed"] == {"training.epochs": "no source"}


def test_equals_share_a_rank_and_it_says_so():
    """Six methods of a row that all predict the larger class are no six winners."""
    fake = sweep(seeds=(1,), stand_in=True)
    accuracies = {"obert": 88.0, "magnitude": 88.0, "platon": 87.0, "l0": 50.0, "movement": 50.0}
    for method, accuracy in accuracies.items():
        fake.finish(f"t5/sst2/bert_base/{method}/90", 1, accuracy=accuracy)
    report = build(fake, fake)
    cells = by_id(report)
    said = {m: words.cells.rank(cells[f"t5/sst2/bert_base/{m}/90"]).split()[0] for m in accuracies}
    expected = {"obert": "1=/5", "magnitude": "1=/5", "platon": "3/5", "l0": "4=/5"}
    assert said == expected | {"movement": "4=/5"}
    fake.finish("t5/sst2/bert_base/soft_movement/90", 1, accuracy=10.0)
    best = next(c for c in build(fake, fake)["claims"] if c["id"] == "t5/sst2/best")
    assert words.claims.verdict(best) == "not decidable, 4 of 5 ahead, on stand-ins"


def test_only_selected_cells_are_reported_and_the_baseline_may_be_another():
    fake = sweep(seeds=(1,), stand_in=True)
    wanted, dense = "t5/stsb/bert_base/obert/90", "t5/stsb/bert_base/dense"
    for name, plan in fake.cells.items():
        plan.selected = name == wanted
    fake.finish(wanted, 1, pearson=44.0, spearman=40.0)
    fake.finish(dense, 1, pearson=88.0, spearman=88.0)
    report = build(fake, fake)
    assert [entry["id"] for entry in report["cells"]] == [wanted]
    assert report["cells"][0]["recovery"] == 0.5
    assert {claim["id"] for claim in report["claims"]} == {
        "t5/stsb/best",
        "t5/obert-beats-platon",
        "t5/no-distillation",
        "t5/no-tuning",
        "t5/platon-is-tuned",
    }
    assert {claim["verdict"] for claim in report["claims"] if "stsb" in claim["id"]} == {
        "undecided"
    }


def test_a_cell_that_was_changed_says_so():
    fake = sweep()
    fake.finish_as_published(SMALL)
    changed = fake.cells["t5/sst2/bert_base/obert/90"]
    changed.cell = replace(changed.cell, settings=("method.damp=0.1",))
    changed.stand_in = True
    changed.unlike = ["sst2 has 9 train rows, not 67,349"]
    cells = by_id(build(fake, fake))
    assert cells[changed.cell.id]["verdict"] == "stand_in"
    assert cells[changed.cell.id]["notes"] == [
        "with method.damp=0.1, not as published",
        "not as published: sst2 has 9 train rows, not 67,349",
    ]
    assert sum("not as published" in note for e in cells.values() for note in e["notes"]) == 2


def test_a_cell_of_ones_own_has_nothing_to_compare_with():
    own = Cell("t0/sst2/bert_base/obert/70", 0, "sst2", "bert_base", "obert", 0.7, "unstructured",
               "70", {}, "", "oneshot", "none", None)  # fmt: skip
    fake = sweep(seeds=(1,))
    fake.cells = {own.id: FakeCellPlan(own, finals={1: "x"}, stages=["x"])}
    fake.finish(own.id, 1, accuracy=80.0)
    (entry,) = build(fake, fake)["cells"]
    assert (entry["verdict"], entry["recovery"], entry["rank"]) == ("unpublished", None, None)
    assert entry["measured"] == {"accuracy": 80.0}


def test_cost_counts_a_shared_stage_once():
    fake = sweep(seeds=(1,))
    fake.finish_as_published({1: 0.0})
    cost = build(fake, fake)["cost"]
    assert cost["seconds"] == 2.0 * 69 and cost["cpu_seconds"] == 1.5 * 69
    assert cost["planned_seconds"] == cost["planned_seconds_of_done"] == 3.0 * 69
    fake.results.popitem()
    assert build(fake, fake)["cost"]["planned_seconds_of_done"] == 3.0 * 68
    assert sum(kind["stages"] for kind in cost["by_kind"]) == len(cost["stages"]) == 69
    assert {row["status"] for row in cost["stages"]} == {"done", "not_converged"}


def test_the_rounds_of_a_lottery_ticket_are_one_kind_of_cost():
    fake = sweep(seeds=(1,))
    for k, stage in enumerate(list(fake.stages.values())[:3]):
        stage.tags["role"] = f"round_{k}"
    kinds = {row["kind"]: row["stages"] for row in build(fake, fake)["cost"]["by_kind"]}
    assert kinds["round"] == 3 and "gradual_magnitude" in kinds


def test_mixed_environments_within_a_row_are_warned_of():
    fake = sweep(seeds=(1,))
    fake.finish_as_published({1: 0.0})
    assert build(fake, fake)["environment"]["warnings"] == []
    result = fake.finish("t5/qqp/bert_base/platon/90", 1, accuracy=90.2, f1=86.8)
    result["environment"] = {"host": "b", "versions": {"torch": "2.12.0"}}
    environment = build(fake, fake)["environment"]
    assert environment["values"]["versions.torch"] == ["2.12.0", "2.13.0"]
    assert environment["values"]["host"] == ["a", "b"]
    (warning,) = environment["warnings"]
    assert warning.startswith("t5/qqp (") and "versions.torch: 2.12.0, 2.13.0" in warning
    assert "host" not in warning


def test_results_of_other_code_are_warned_of():
    fake = sweep(seeds=(1,))
    fake.finish_as_published({1: 0.0})
    stage = fake.stages[fake.cells["t5/qqp/bert_base/platon/90"].finals[1]]
    fake.stages[stage.id] = replace(stage, notes={"method_code": "now"})
    then = {"notes": {"method_code": "then"}}
    recorded = fake.stage
    fake.stage = lambda i: then if i == stage.id else recorded(i)
    (warning,) = build(fake, fake)["environment"]["warnings"]
    assert warning == (
        f"the code of package.platon has changed since 1 finished stage ran ({stage.id});"
        " the results are used as they are"
    )
    then["notes"]["method_code"] = "now"
    assert build(fake, fake)["environment"]["warnings"] == []


def test_a_comparison_across_sparsities_is_warned_of_too():
    """Table 2 compares 95 % with 90 %, table 3 MobileBERT with BERT-Large."""
    for name in ("t2/squad/bert_large/obert/95", "t3/squad/mobilebert/obert/50"):
        fake = sweep(seeds=(1,))
        fake.finish_as_published({1: 0.0})
        stage = fake.cells[name].finals[1]
        fake.results[stage]["environment"] = {"gpu": "B"}
        others = [r for i, r in fake.results.items() if i != stage]
        for result in others:
            result["environment"] = {"gpu": "A"}
        (warning,) = build(fake, fake)["environment"]["warnings"]
        assert warning.startswith(name[:8]) and warning.endswith("mixes gpu: A, B")


def test_each_file_is_read_once_and_fast():
    fake = sweep()
    fake.finish_as_published(SMALL)
    start = time.perf_counter()
    build(fake, fake)
    assert time.perf_counter() - start < 1.0
    assert len(fake.reads) == len(set(fake.reads))
