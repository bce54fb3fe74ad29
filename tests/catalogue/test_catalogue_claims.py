"""The claims as data: they name real places, and the document's own numbers bear them."""

from __future__ import annotations

import pytest

from obert_sweeps.catalogue.claims import claims
from obert_sweeps.catalogue.tables import cell_named, document_cells

COMPARING = [claim for claim in claims() if claim.audit is None]


def test_every_caption_has_a_claim():
    assert {claim.table for claim in claims()} == {1, 2, 3, 4, 5}
    assert len({claim.id for claim in claims()}) == len(claims())


@pytest.mark.parametrize("claim", COMPARING, ids=lambda claim: claim.id)
def test_the_printed_numbers_bear_the_claim(claim):
    assert claim.better and len(claim.better) == len(claim.worse)
    for (a, metric), (b, other) in zip(claim.better, claim.worse, strict=True):
        assert metric == other and a != b
        assert cell_named(a).table == cell_named(b).table == claim.table
        ours, theirs = cell_named(a).published[metric], cell_named(b).published[metric]
        assert ours is not None
        if theirs is None:
            assert not cell_named(b).converges
        else:
            assert ours > claim.threshold * theirs - claim.tolerance


def test_table_5_compares_obert_with_every_method_on_every_metric():
    pairs = {
        pair
        for claim in COMPARING
        if claim.id.startswith("t5/") and claim.id.endswith("/best")
        for pair in zip(claim.better, claim.worse, strict=True)
    }
    wanted = {
        ((f"t5/{c.task}/bert_base/obert/90", metric), (c.id, metric))
        for c in document_cells()
        if c.table == 5 and c.method not in ("dense", "obert")
        for metric in c.published
    }
    assert pairs == wanted


PAIRS = {  # as the captions say
    "t1/obert-beats-magnitude": ("bert_base/obert/2of4", "bert_base/magnitude/2of4"),
    "t1/one-epoch-recovers": ("bert_base/obert/2of4-1epoch", "bert_base/dense"),
    "t2/obert-beats-prune-ofa": ("bert_large/obert/90", "bert_large/prune_ofa/90"),
    "t2/double-sparsity": ("bert_large/obert/95", "bert_large/prune_ofa/90"),
    "t3/large-recovers": ("bert_large/obert/95", "bert_large/dense"),
    "t3/mobilebert-recovers": ("mobilebert/obert/50", "bert_large/dense"),
}


def test_each_claim_on_squad_holds_the_cells_of_its_caption_together():
    found = [claim for claim in COMPARING if claim.table < 4]
    assert {claim.id for claim in found} == set(PAIRS)
    for claim in found:
        stems = {(a[0].split("/", 2)[2], b[0].split("/", 2)[2]) for a, b in _pairs(claim)}
        assert stems == {PAIRS[claim.id]}
        metrics = [metric for _, metric in claim.better]
        assert metrics == (["f1"] if claim.table == 3 else ["f1", "em"])
        by_a_point, by_a_share = claim.id == "t1/one-epoch-recovers", claim.table == 3
        assert claim.tolerance == (1.0 if by_a_point else 0.0)
        assert claim.threshold == (0.99 if by_a_share else 1.0)


def test_obert_is_held_against_platon_on_every_metric_of_table_5():
    (claim,) = (claim for claim in COMPARING if claim.id == "t5/obert-beats-platon")
    wanted = {
        ((c.id.replace("platon", "obert"), metric), (c.id, metric))
        for c in document_cells()
        if c.method == "platon"
        for metric in c.published
    }
    assert set(_pairs(claim)) == wanted


def _pairs(claim):
    return zip(claim.better, claim.worse, strict=True)


def test_table_4_orders_three_methods():
    claim = next(c for c in claims() if c.id == "t4/sst2/order")
    names = [
        (a.split("/")[3], b.split("/")[3])
        for (a, _), (b, _) in zip(claim.better, claim.worse, strict=True)
    ]
    assert names == [("prune_ofa", "lottery"), ("obert", "prune_ofa")]
