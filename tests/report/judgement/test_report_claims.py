"""Claims decided on measured values."""

from __future__ import annotations

import random

from report.fake_sweep import sweep

from obert_sweeps.catalogue.cell import primary_metric
from obert_sweeps.catalogue.claims import Claim
from obert_sweeps.report import words
from obert_sweeps.report.build import build
from obert_sweeps.report.facts.outcome import CellOutcome
from obert_sweeps.report.judgement.claims import claim_entries


def test_one_broken_comparison_breaks_the_claim():
    fake = sweep()
    fake.finish_as_published({1: -0.1, 2: 0.0, 3: 0.1})
    for seed in (1, 2, 3):
        fake.finish("t5/mrpc/bert_base/platon/90", seed, accuracy=84.3, f1=95.0)
    claims = {claim["id"]: claim for claim in build(fake, fake)["claims"]}
    assert claims["t5/mrpc/best"]["verdict"] == "broken"
    assert claims["t5/obert-beats-platon"]["verdict"] == "broken"
    assert claims["t5/sst2/best"]["verdict"] == "held"
    broken = [e for e in claims["t5/mrpc/best"]["evidence"] if e["verdict"] == "broken"]
    assert [(e["worse"], e["metric"]) for e in broken] == [("t5/mrpc/bert_base/platon/90", "f1")]
    assert broken[0]["published"] == [89.3, 88.8] and broken[0]["document"] is True


def test_a_claim_of_many_comparisons_is_not_broken_by_one_unlucky_one():
    """Each of eleven is as true as can be (no difference); few such claims may seem broken."""
    names = [f"t5/{task}/bert_base" for task in ("mnli", "qqp", "qnli", "sst2", "cola")]
    places = [(f"{n}/obert/90", primary_metric(n.split("/")[1])) for n in names]
    others = [(f"{n}/platon/90", metric) for n, (_, metric) in zip(names, places, strict=True)]
    claim = Claim("t5/x", 5, "", tuple(places), tuple(others))
    plans = sweep().cells
    rng, broken, draws = random.Random(2), 0, 400
    for _ in range(draws):
        measured = {
            name: CellOutcome(values={s: {metric: 80 + rng.gauss(0, 0.3)} for s in (1, 2, 3)})
            for name, metric in places + others
        }
        audit = {"methods": []}
        (entry,) = claim_entries([claim], plans, measured, audit, [])
        broken += entry["verdict"] == "broken"
    # One-sided 2.5 % a claim; uncorrected it would be some 12 %.
    assert broken / draws <= 0.05


def test_a_broken_claim_on_assumed_keys_says_so():
    fake = sweep()
    fake.finish_as_published({1: -0.1, 2: 0.0, 3: 0.1})
    name = "t4/sst2/bert_base/obert/90"
    fake.cells[name].assumed = {"training.epochs": "no source"}
    for seed in (1, 2, 3):
        fake.finish(name, seed, accuracy=80.0 + 0.1 * seed)
    claim = next(c for c in build(fake, fake)["claims"] if c["id"] == "t4/sst2/order")
    assert (claim["verdict"], claim["assumed"]) == ("broken", True)
    assert words.claims.verdict(claim) == "broken (under assumptions)"


def test_a_best_epoch_s_lead_is_told_from_the_last_one_s():
    """Only oBERT keeps the best of its epochs; by their last both score the same."""
    fake = sweep()
    fake.finish_as_published({1: -0.1, 2: 0.0, 3: 0.1})
    for seed, noise in ((1, 0.3), (2, -0.2), (3, 0.1)):
        result = fake.finish("t5/sst2/bert_base/obert/90", seed, accuracy=92.0 - 0.05 * seed)
        result["final_metrics"] = {"accuracy": 90.5 + noise}  # PLATON's, but for noise
    claims = {claim["id"]: claim for claim in build(fake, fake)["claims"]}
    claim = claims["t5/sst2/best"]
    assert claim["verdict"] == "held" and claim["last_epoch"]["verdict"] == "undecided"
    assert words.claims.verdict(claim) == ("held; by the last epochs not decidable, leans held")
    assert claims["t5/qnli/best"]["last_epoch"] is None
    assert words.claims.verdict(claims["t5/qnli/best"]) == "held"


def test_where_comparisons_disagree_the_claim_says_how_many_are_ahead():
    fake = sweep()
    fake.finish_as_published({1: 0.0})
    fake.finish("t5/sst2/bert_base/obert/90", 1, accuracy=87.0)  # soft movement has 87.4
    claim = next(c for c in build(fake, fake)["claims"] if c["id"] == "t5/sst2/best")
    assert (claim["verdict"], claim["leaning"]) == ("undecided", "mixed")
    assert words.claims.verdict(claim) == "not decidable, 3 of 5 ahead"


def test_what_can_be_pruned_in_one_shot_is_decided_on_recipes():
    def verdict(fake):
        return next(c for c in build(fake, fake)["claims"] if c["id"] == "t1/one-shot-only")

    fake = sweep()
    found = verdict(fake)
    assert found["verdict"] == "held"
    told = {item["method"]: item["epochs"] for item in found["evidence"]}
    assert told["t1/squad/bert_base/obert/2of4"] == [0] and told["platon"] == [8]
    recipe = fake.stages[fake.cells["t5/qnli/bert_base/l0/90"].finals[2]].recipe
    recipe["training"]["epochs"] = 0  # the fake's seeds share their recipe
    assert verdict(fake)["verdict"] == "broken"
    for plan in fake.cells.values():
        plan.selected = plan.cell.table == 1
    assert verdict(fake)["verdict"] == "undecided"
