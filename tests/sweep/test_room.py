"""Stages that ask for different things: none starves, none keeps another back."""

from __future__ import annotations

from typing import Any

import pytest

from obert_sweeps.schema import Stage
from obert_sweeps.sweep.room import Room

NODES = [{"CPU": 8.0, "GPU": 8.0}]


def stage(name: str, seconds: float = 10.0, workers: int = 1, **resources: float) -> Stage:
    return Stage(name, name, {}, 0, cost={"seconds": seconds}, resources=resources, workers=workers)


class Machine:
    """One node under Ray's rule: whatever of the queue first fits is placed."""

    def __init__(self, stages: list[Stage], most_waiting: int, guarded: bool = True) -> None:
        self.ready = {s.id: s for s in stages}  # in the order of urgency
        order = list(self.ready)
        self.room = Room(NODES, most_waiting, order.index)
        self.free = {"cpu": 8.0, "gpu": 8.0}
        self.queue: list[Stage] = []
        self.running: list[tuple[float, Stage]] = []
        self.most = most_waiting
        self.guarded = guarded
        self.began: dict[str, float] = {}

    def run(self) -> dict[str, float]:
        now = 0.0
        while self.ready or self.queue or self.running:
            while (found := self._next()) is not None:
                del self.ready[found.id]
                self.room.take(found)
                self.queue.append(found)
                self._place(now)
            self.running.sort(key=lambda entry: entry[0])
            now, ended = self.running.pop(0)
            for name, amount in ended.resources.items():
                self.free[name] += amount
            self.room.give_back(ended.id)
            # the queue's oldest do not come first: Ray tries them again at times of its own
            self.queue.sort(key=lambda queued: queued.resources.get("gpu", 0.0))
            self._place(now)
        return self.began

    def _next(self) -> Stage | None:
        if not self.guarded:
            return next(iter(self.ready.values()), None) if len(self.queue) < self.most else None
        admits = self.room.gate()
        return next((s for s in self.ready.values() if admits(s)), None)

    def _place(self, now: float) -> None:
        for queued in list(self.queue):
            if all(self.free[name] >= amount for name, amount in queued.resources.items()):
                self.queue.remove(queued)
                for name, amount in queued.resources.items():
                    self.free[name] -= amount
                self.running.append((now + queued.cost["seconds"], queued))
                self.room.placed(queued.id)
                self.began[queued.id] = now


def many(count: int, seconds: Any = lambda n: 10.0 + n % 7, **resources: float) -> list[Stage]:
    return [stage(f"s{n}", seconds(n), **resources) for n in range(count)]


def test_a_wide_stage_does_not_starve_behind_narrow_ones() -> None:
    narrow = many(100, cpu=0.5, gpu=1.0)
    plan = [*narrow[:8], stage("wide", cpu=1.0, gpu=8.0), *narrow[8:]]
    began = Machine(plan, most_waiting=4).run()
    assert began["wide"] <= 16.0, "as soon as those that ran before it have ended"
    unguarded = Machine(plan, most_waiting=4, guarded=False).run()
    assert unguarded["wide"] > 100.0, "what would be without the room"


def test_stages_on_cpus_do_not_keep_back_those_on_gpus() -> None:
    slow = [stage(f"export{n}", 1000.0, cpu=8.0) for n in range(20)]
    free_of_them = [stage(f"gpu{n}", 10.0, gpu=1.0) for n in range(8)]
    began = Machine([*slow, *free_of_them], most_waiting=4).run()
    assert max(began[s.id] for s in free_of_them) == 0.0
    unguarded = Machine([*slow, *free_of_them], most_waiting=4, guarded=False).run()
    assert max(unguarded[s.id] for s in free_of_them) > 1000.0


def test_stages_alike_leave_no_room_empty() -> None:
    began = Machine(many(64, lambda n: 10.0, cpu=1.0, gpu=1.0), most_waiting=4).run()
    assert sorted(began.values()) == [10.0 * (n // 8) for n in range(64)]


def test_what_waits_is_bounded_and_what_ends_is_given_back() -> None:
    stages = [stage(f"s{n}", gpu=8.0, workers=1) for n in range(5)]
    room = Room(NODES, 2, lambda name: name)
    handed = []
    for one in stages:
        if room.gate()(one):
            room.take(one)
            handed.append(one.id)
    assert handed == ["s0", "s1", "s2"]  # one has it, two wait
    room.placed("s0")
    room.give_back("s0")
    room.placed("s1")
    assert room.gate()(stages[3])


def test_who_may_wait_beside_one_that_waits_already() -> None:
    order = ["urgent", "holder", "waits", "later"]
    room = Room([{"CPU": 4.0, "GPU": 1.0, "DISK": 1.0}], 1, order.index)
    room.take(stage("holder", cpu=4.0, gpu=1.0, disk=1.0))
    room.take(stage("waits", cpu=2.0, gpu=1.0))
    assert room.gate()(stage("urgent", cpu=4.0)), "it goes before what waits"
    assert not room.gate()(stage("later", cpu=4.0)), "it would take what that waits for"
    assert room.gate()(stage("later", disk=1.0)), "it wants nothing of it"
    room.give_back("waits")  # ended without ever having found its room
    assert room.gate()(stage("later", cpu=4.0))


def test_all_workers_of_a_stage_count() -> None:
    room = Room(NODES, 0, lambda name: name)
    assert room.gate()(stage("a", workers=8, gpu=1.0))
    assert not room.gate()(stage("a", workers=9, gpu=1.0))


@pytest.mark.parametrize("amount", [0.5, 0.25, 1 / 3])
def test_shares_of_a_gpu_add_up(amount: float) -> None:
    room = Room([{"GPU": 1.0}], 0, lambda name: name)
    for n in range(round(1 / amount)):
        part = stage(f"s{n}", gpu=amount)
        assert room.gate()(part)
        room.take(part)
    assert not room.gate()(stage("more", gpu=amount))
