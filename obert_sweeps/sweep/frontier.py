"""Which stage may run next. Pure bookkeeping over the DAG: no Ray, no files, no clock."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Iterable

from ..plan.ancestry import with_ancestors
from ..schema import Stage

# A stage without an estimate still counts: a longer chain goes before a shorter one.
_LEAST_SECONDS = 1.0


class Frontier:
    """The stages of a plan and what has become of each.

    A stage is waiting (for parents), ready, running, held (by another driver), or at its end: done,
    failed or blocked (something it needs failed). Ready stages come out by priority: those in
    `first` and all they need, then by critical path (the estimated seconds of the longest chain
    from the stage to the end of the plan), then in the plan's order. A parent that is not among
    the stages must be in `done`.

    Raises ValueError for an unknown parent, a repeated id or a cycle.
    """

    def __init__(
        self, stages: Iterable[Stage], done: Collection[str] = (), first: Collection[str] = ()
    ) -> None:
        self.stages: dict[str, Stage] = {}
        for stage in stages:
            if stage.id in self.stages:
                raise ValueError(f"stage {stage.id} is in the plan twice")
            self.stages[stage.id] = stage
        self._parents = {s.id: set(s.parents.values()) for s in self.stages.values()}
        self._children: dict[str, list[str]] = {name: [] for name in self.stages}
        done = set(done)
        known = done | set(self.stages)
        for name, parents in self._parents.items():
            if missing := parents - known:
                raise ValueError(f"stage {name} needs {sorted(missing)}, neither planned nor done")
            for parent in parents & self.stages.keys():
                self._children[parent].append(name)
        order = self._order()
        self.path_seconds = self._critical_paths(order)
        wanted = set(with_ancestors(first, lambda name: self._parents.get(name, ())))
        place = {name: number for number, name in enumerate(self.stages)}
        self._rank = {
            name: (name not in wanted, -self.path_seconds[name], place[name])
            for name in self.stages
        }
        self.state = {name: "done" if name in done else "waiting" for name in self.stages}
        self._left = sum(state == "waiting" for state in self.state.values())
        self._missing = {name: len(parents - done) for name, parents in self._parents.items()}
        self._ready: list[tuple[tuple[bool, float, int], str]] = []
        for name in order:
            self._release(name)

    # ---- asking

    def next_ready(self, admits: Callable[[Stage], bool] | None = None) -> Stage | None:
        """The most urgent ready stage, of those that `admits` lets through; None if none."""
        for _, name in self._ready:
            stage = self.stages[name]
            if admits is None or admits(stage):
                return stage
        return None

    def rank(self, name: str) -> tuple[bool, float, int]:
        """Less is more urgent."""
        return self._rank[name]

    def named(self, state: str) -> list[str]:
        """The ids in one state, in the plan's order."""
        return [name for name in self.stages if self.state[name] == state]

    @property
    def all_done(self) -> bool:
        """Nothing is left to run or to wait for."""
        return self._left == 0

    # ---- telling

    def started(self, name: str) -> None:
        self._expect(name, "ready")
        self._ready.remove((self._rank[name], name))
        self.state[name] = "running"

    def finished(self, name: str) -> None:
        """The stage has a result: its children may become ready. It may also be a held one."""
        self._expect(name, "running", "held")
        self._end(name, "done")
        for child in self._children[name]:
            self._missing[child] -= 1
            self._release(child)

    def failed(self, name: str, reason: str) -> list[tuple[str, str]]:
        """The stage will have no result. Returns what that blocks, as (id, reason)."""
        self._expect(name, "running", "held")
        self._end(name, "failed")
        blocked = []
        why = f"parent {self.stages[name].name} failed: {reason}"
        queue = list(self._children[name])
        while queue:
            child = queue.pop(0)
            if self.state[child] == "waiting":
                self._end(child, "blocked")
                blocked.append((child, why))
                queue += self._children[child]
        return blocked

    def held(self, name: str) -> None:
        """Another driver runs this stage: wait for it, without holding resources."""
        self._expect(name, "running")
        self.state[name] = "held"

    def let_go(self, name: str) -> None:
        """The other driver has left the stage without a result: it is ours again."""
        self._expect(name, "held")
        self.state[name] = "waiting"
        self._release(name)

    # ---- inside

    def _expect(self, name: str, *states: str) -> None:
        if self.state[name] not in states:
            raise ValueError(f"stage {name} is {self.state[name]}, not {' or '.join(states)}")

    def _end(self, name: str, state: str) -> None:
        self.state[name] = state
        self._left -= 1

    def _release(self, name: str) -> None:
        if self.state[name] == "waiting" and self._missing[name] == 0:
            self.state[name] = "ready"
            insort(self._ready, (self._rank[name], name))

    def _order(self) -> list[str]:
        """Parents before children; ValueError on a cycle."""
        left = {name: len(p & self.stages.keys()) for name, p in self._parents.items()}
        order = [name for name, count in left.items() if count == 0]
        for name in order:
            for child in self._children[name]:
                left[child] -= 1
                if left[child] == 0:
                    order.append(child)
        if len(order) < len(self.stages):
            raise ValueError(f"stages in a circle: {sorted(set(self.stages) - set(order))}")
        return order

    def _critical_paths(self, order: list[str]) -> dict[str, float]:
        paths: dict[str, float] = {}
        for name in reversed(order):
            own = max(float(self.stages[name].cost.get("seconds", 0.0)), _LEAST_SECONDS)
            paths[name] = own + max((paths[child] for child in self._children[name]), default=0.0)
        return paths
