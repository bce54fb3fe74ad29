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


def test_the_double_sparsity_claim_crosses_sparsities():
    claim = next(c for c in claims() if c.id == "t2/double-sparsity")
    assert claim.better[0][0].endswith("obert/95") and claim.worse[0][0].endswith("prune_ofa/90")


def test_table_4_orders_three_methods():
    claim = next(c for c in claims() if c.id == "t4/sst2/order")
    names = [
        (a.split("/")[3], b.split("/")[3])
        for (a, _), (b, _) in zip(claim.better, claim.worse, strict=True)
    ]
    assert names == [("prune_ofa", "lottery"), ("obert", "prune_ofa")]
