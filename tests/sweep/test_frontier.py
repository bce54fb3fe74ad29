"""The frontier against brute force over random DAGs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obert_sweeps.schema import Stage
from obert_sweeps.sweep.frontier import Frontier


def stage(name: str, parents: list[str], seconds: float = 1.0, cpu: float = 1.0) -> Stage:
    return Stage(
        id=name,
        name=f"stage {name}",
        recipe={},
        seed=0,
        parents={f"role{i}": parent for i, parent in enumerate(parents)},
        cost={"seconds": seconds},
        resources={"cpu": cpu},
    )


@st.composite
def plans(draw: st.DrawFn) -> list[Stage]:
    """A random DAG; the list's order is not topological."""
    count = draw(st.integers(1, 9))
    stages = []
    for number in range(count):
        parents = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        seconds = draw(st.sampled_from([0.0, 1.0, 5.0, 30.0]))
        stages.append(stage(f"n{number}", [f"n{p}" for p in sorted(parents)], seconds))
    return draw(st.permutations(stages))


def descendants(stages: list[Stage], name: str) -> set[str]:
    found: set[str] = set()
    while True:
        more = {s.id for s in stages if set(s.parents.values()) & (found | {name})}
        if more <= found:
            return found
        found |= more


def longest_path(stages: list[Stage], name: str) -> float:
    own = max(next(s for s in stages if s.id == name).cost["seconds"], 1.0)
    children = [s.id for s in stages if name in s.parents.values()]
    return own + max((longest_path(stages, child) for child in children), default=0.0)


@given(
    stages=plans(),
    bad=st.sets(st.integers(0, 8), max_size=2),
    busy=st.sets(st.integers(0, 8), max_size=2),
    workers=st.integers(1, 3),
    data=st.data(),
)
def test_a_run_of_any_plan(
    stages: list[Stage], bad: set[int], busy: set[int], workers: int, data: st.DataObject
) -> None:
    by_id = {s.id: s for s in stages}
    bad_ids = {f"n{i}" for i in bad} & set(by_id)
    busy_ids = {f"n{i}" for i in busy} & set(by_id)
    frontier = Frontier(stages)
    running: list[str] = []
    began: list[str] = []
    done: list[str] = []
    blocked: dict[str, str] = {}
    while not frontier.all_done:
        assert frontier.named("running") == sorted(running, key=list(by_id).index)
        ready = frontier.next_ready()
        expected = {
            s.id
            for s in stages
            if set(s.parents.values()) <= set(done)
            and s.id not in {*done, *running, *blocked}
            and frontier.state[s.id] not in ("failed", "held")
        }
        assert set(frontier.named("ready")) == expected
        if ready is not None and len(running) < workers:
            # the most urgent of what may run; of several the first in the plan
            longest = max(longest_path(stages, i) for i in expected)
            assert ready.id == next(
                i for i in by_id if i in expected and longest_path(stages, i) == longest
            )
            frontier.started(ready.id)
            running.append(ready.id)
            began.append(ready.id)
            continue
        held = frontier.named("held")
        if held and (not running or data.draw(st.booleans())):
            if data.draw(st.booleans()):
                frontier.finished(held[0])  # the other driver has done it
                done.append(held[0])
            else:
                frontier.let_go(held[0])
                began.remove(held[0])
            continue
        assert running, "nothing runs, nothing is ready, and yet it is not over"
        name = running.pop(data.draw(st.integers(0, len(running) - 1)))
        if name in busy_ids:
            busy_ids.remove(name)
            frontier.held(name)
        elif name in bad_ids:
            for child, reason in frontier.failed(name, "no luck"):
                assert child not in blocked
                blocked[child] = reason
        else:
            frontier.finished(name)
            done.append(name)
    failed = frontier.named("failed")
    assert len(began) == len(set(began)), "a stage ran twice"
    under_failed = set().union(*(descendants(stages, name) for name in failed))
    assert set(blocked) == under_failed == set(frontier.named("blocked"))
    assert set(done) == set(by_id) - set(failed) - under_failed  # siblings went on
    for name in done:
        for parent in by_id[name].parents.values():
            assert done.index(parent) < done.index(name)
    for reason in blocked.values():
        assert reason in {f"parent stage {name} failed: no luck" for name in failed}


@given(stages=plans(), data=st.data())
def test_done_stages_are_not_handed_out(stages: list[Stage], data: st.DataObject) -> None:
    done = data.draw(st.sets(st.sampled_from([s.id for s in stages])))
    # plan may drop finished stages, or leave them in
    dropped = data.draw(st.booleans())
    frontier = Frontier([s for s in stages if not (dropped and s.id in done)], done=done)
    ran = set()
    while (ready := frontier.next_ready()) is not None:
        frontier.started(ready.id)
        frontier.finished(ready.id)
        ran.add(ready.id)
    assert frontier.all_done and ran == {s.id for s in stages} - done


def test_first_comes_first_with_all_it_needs() -> None:
    stages = [
        stage("long", [], seconds=1000),
        stage("a", [], seconds=1),
        stage("b", ["a"], seconds=1),
        stage("c", ["b"], seconds=1),
    ]
    frontier = Frontier(stages, first={"b"})
    order = []
    while (ready := frontier.next_ready()) is not None:
        frontier.started(ready.id)
        frontier.finished(ready.id)
        order.append(ready.id)
    assert order == ["a", "b", "long", "c"]


def test_the_most_urgent_of_those_let_through_comes_next() -> None:
    frontier = Frontier([stage("big", [], seconds=9, cpu=8), stage("small", [], cpu=1)])
    assert frontier.next_ready().id == "big"  # type: ignore[union-attr]
    assert frontier.next_ready(lambda s: s.resources["cpu"] < 8).id == "small"  # type: ignore[union-attr]
    assert frontier.next_ready(lambda s: False) is None and not frontier.all_done
    assert frontier.rank("big") < frontier.rank("small")


def test_a_plan_that_is_none() -> None:
    with pytest.raises(ValueError, match="circle"):
        Frontier([stage("a", ["b"]), stage("b", ["a"])])
    with pytest.raises(ValueError, match="neither planned nor done"):
        Frontier([stage("a", ["gone"])])
    with pytest.raises(ValueError, match="twice"):
        Frontier([stage("a", []), stage("a", [])])
    frontier = Frontier([stage("a", [])])
    with pytest.raises(ValueError, match="ready, not running"):
        frontier.finished("a")
