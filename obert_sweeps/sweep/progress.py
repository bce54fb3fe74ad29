"""What people see of a run, on stderr: a live table in a terminal, else a line for each change."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..amounts import duration
from ..plan.cost import seconds_left
from ..schema import Stage
from ..store import Store
from .events import Event

_SHOWN = 12  # running stages; of more, the rest is a count
_KINDS = 6  # of stages, the next in the plan's order; of more, the rest is a count
_READ_SECONDS = 1.0  # how old a stage's last record may be on the screen
_IDLE_SECONDS = 30.0  # nothing runs for so long only where others have the room or a stage


@dataclass
class Running:
    """A stage that runs, as its metrics.jsonl shows it."""

    stage: Stage
    since: float
    last: dict[str, Any] = field(default_factory=dict)  # training record of this run
    read: float = 0.0

    def see(self, record: dict[str, Any] | None) -> None:
        """Take in a record; only training records of this run say how far the stage is."""
        if record and "steps" in record and record.get("time", 0.0) >= self.since:
            self.last = record

    def row(self) -> tuple[str, str, str, str]:
        """Name, epoch, rate, time left."""
        epoch = rate = left = ""
        if self.last:
            epoch = f"{self.last.get('epoch', 0):.1f}/{self.last.get('epochs', 0):g}"
            if "samples_per_second" in self.last:
                rate = f"{self.last['samples_per_second']:.0f}/s"
        if (seconds := seconds_left(self.stage, self.last)) is not None:
            left = duration(seconds)
        return self.stage.name, epoch, rate, left


class Progress:
    """A listener for `run_plan`, and a context manager around it.

    `stages`: those that shall count; events of others are passed over.
    """

    def __init__(self, stages: Sequence[Stage], store: Store, stream: TextIO | None = None) -> None:
        self._store = store
        self._stages = {stage.id: stage for stage in stages}
        self._console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._running: dict[str, Running] = {}
        self._ended: dict[str, str] = {}  # id -> finished, failed, blocked
        self._began = self._busy = time.monotonic()
        self._estimated = self._taken = 0.0  # seconds of the stages that ran to their end here
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self.table,
                console=self._console,
                refresh_per_second=2,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """A line that stays, above the table."""
        self._console.print(Text(text))

    def on_event(self, event: Event) -> None:
        stage = self._stages.get(event.stage)
        if stage is None:
            return
        name = stage.name
        if event.kind == "started":
            self._running[event.stage] = Running(stage, event.time)
            if event.reason or self._live is None:
                self._line("started", name, event.reason)
            return
        running = self._running.pop(event.stage, None)
        if event.kind == "held":
            self._line("waiting", name, event.reason)
            return
        self._ended[event.stage] = event.kind
        took = ""
        if running is not None:
            seconds = event.time - running.since
            took = f" in {duration(seconds)}"
            self._taken += seconds
            self._estimated += running.stage.cost.get("seconds", 0.0)
        if event.kind == "finished":
            if running is None:
                return  # found finished: the counts tell
            status = str(event.outcome.get("status", "done")).replace("_", " ")
            if self._live is None or status != "done":
                self._line(status + took, name, event.outcome.get("reason") or "")
        elif event.kind == "failed":
            log = self._store.folder(event.stage).where("log.txt")
            self._line(event.kind + took, name, f"{event.reason}  (log: {log})")
        else:
            self._line(event.kind + took, name, event.reason)

    def counts(self) -> str:
        """'12/69 done, 1 failed, 2 blocked, 3 min 10 s left'."""
        kinds = list(self._ended.values())
        parts = [f"{kinds.count('finished')}/{len(self._stages)} done"]
        parts += [f"{kinds.count(kind)} {kind}" for kind in ("failed", "blocked") if kind in kinds]
        if (left := self.seconds_left()) is not None:
            parts.append(f"about {duration(left)} left")
        return ", ".join(parts)

    def seconds_left(self) -> float | None:
        """Estimated work left, in proportion to what the ended stages took, shared by the stages
        that run at once; None before the first has ended, or without estimates."""
        elapsed = time.monotonic() - self._began
        if not self._estimated or not self._taken:
            return None
        now = time.time()
        left = running_longest = 0.0
        for name, stage in self._stages.items():
            if name in self._ended:
                continue
            seconds = stage.cost.get("seconds", 0.0) * self._taken / self._estimated
            if (running := self._running.get(name)) is not None:
                told = seconds_left(stage, running.last)
                seconds = max(0.0, seconds - (now - running.since)) if told is None else told
                running_longest = max(running_longest, seconds)
            left += seconds
        busy = self._taken + sum(now - running.since for running in self._running.values())
        return max(left / max(busy / max(elapsed, 1e-9), 1.0), running_longest)

    def table(self) -> Group:
        """The live view."""
        rows = Table(box=None, padding=(0, 2, 0, 0), show_header=True, header_style="dim")
        for column in ("running", "epoch", "samples", "left"):
            rows.add_column(
                column, no_wrap=True, justify="left" if column == "running" else "right"
            )
        running = list(self._running.values())
        for one in running[:_SHOWN]:
            if time.monotonic() - one.read >= _READ_SECONDS:
                one.see(self._store.folder(one.stage.id).last_record())
                one.read = time.monotonic()
            rows.add_row(*one.row())
        if running:
            self._busy = time.monotonic()
        elif time.monotonic() - self._busy >= _IDLE_SECONDS:
            rows.add_row("nothing: it waits for room (`ray status`) or another driver", "", "", "")
        if len(running) > _SHOWN:
            rows.add_row(f"and {len(running) - _SHOWN} more", "", "", "")
        elapsed = duration(time.monotonic() - self._began)
        bar = ProgressBar(total=max(1, len(self._stages)), completed=len(self._ended), width=20)
        whole = Table.grid(padding=(0, 1))
        whole.add_row(bar, Text(f"{self.counts()}; {elapsed} so far"))
        return Group(rows, Text(self.by_kind(), "dim"), whole)

    def by_kind(self) -> str:
        """'dense 4/10, gradual 0/7': ended, of the kinds of stage that have not all ended."""
        kinds: dict[str, list[bool]] = {}
        for name, stage in self._stages.items():
            kinds.setdefault(stage.role_group, []).append(name in self._ended)
        left = [f"{k} {sum(ended)}/{len(ended)}" for k, ended in kinds.items() if not all(ended)]
        more = f" and {len(left) - _KINDS} more kinds" if len(left) > _KINDS else ""
        return ", ".join(left[:_KINDS]) + more

    def _line(self, what: str, name: str, reason: str) -> None:
        done = sum(kind == "finished" for kind in self._ended.values())
        tail = f": {reason}" if reason else ""
        self.say(f"[{done}/{len(self._stages)}] {what}  {name}{tail}")
