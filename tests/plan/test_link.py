"""Chains with rounds written out, against levels counted in exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obert_sweeps.plan.link import Link, in_rounds
from obert_sweeps.schema import PruningTimes, RequestError


def chain(rounds: float) -> dict[str, Link]:
    once = {"epochs": 1.0, "batch_size": 8, "learning_rate": [], "pruning": PruningTimes(0, 0)}
    return {
        "round": Link(**once, rounds=rounds, start="pretrained", rewind="pretrained"),
        "ticket": Link(**once, start="round", masks="round"),
    }


@given(st.integers(1, 99), st.integers(1, 99))
def test_rounds_go_up_by_the_step_and_stay_below_the_target(step: int, target: int) -> None:
    links = in_rounds(chain(step / 100), target / 100)
    *rounds, ticket = links
    levels = [Fraction(step * k, 100) for k in range(100) if step * k < target]
    assert rounds == [f"round_{k}" for k in range(len(levels))] and ticket == "ticket"
    assert links["round_0"].level is None and links["round_0"].pruning is None
    assert [links[role].level for role in rounds[1:]] == [float(level) for level in levels[1:]]
    assert [links[role].start for role in links] == ["pretrained", *rounds]
    assert links["ticket"].level is None and links["ticket"].masks == rounds[-1]
    assert all(link.rounds is None for link in links.values())


def test_the_first_round_prunes_and_rewinds_nothing() -> None:
    links = in_rounds(chain(0.3), 0.5)
    assert (links["round_0"].method, links["round_0"].rewind) == ("dense", None)
    assert (links["round_1"].method, links["round_1"].rewind) == ("cell", "pretrained")


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(RequestError, match=r"rounds=.*For instance: 0\.1"):
        in_rounds(chain(share), 0.9)
