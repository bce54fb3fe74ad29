"""What each method kept and was given, over its tasks."""

from __future__ import annotations

import pytest
from report.fake_sweep import sweep

from obert_sweeps.report.build import build
from obert_sweeps.report.judgement.fairness import fairness


def test_fairness_gives_means_over_tasks():
    fake = sweep(seeds=(1, 2))
    fake.finish_as_published({1: -0.1, 2: 0.1})
    rows = {(r["table"], r["method"]): r for r in fairness(build(fake, fake))}
    obert, movement = rows[5, "obert"], rows[5, "movement"]
    assert obert["effort"]["fisher_gradients"] == 64 and obert["effort"]["epochs"] == 8
    assert obert["effort"]["gpu_seconds"] == 0.5
    assert obert["recovery"][1] == 7 and movement["recovery"][1] == 5
    shares = [
        82.2 / 84.6,
        90.4 / 91.5,
        89.3 / 91.3,
        85.6 / 86.4,
        92 / 92.7,
        48.47 / 58.3,
        88 / 90.2,
    ]
    assert obert["recovery"][0] == pytest.approx(sum(shares) / 7)
    assert obert["published_recovery"][0] == pytest.approx(sum(shares) / 7)
