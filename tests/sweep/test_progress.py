"""What a run shows: plain lines away from a terminal, a table in one."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from obert_sweeps.schema import Stage
from obert_sweeps.store import Store
from obert_sweeps.sweep import progress as progress_of
from obert_sweeps.sweep.events import Event
from obert_sweeps.sweep.progress import Progress

RECIPE = {"kind": "train", "training": {"batch_size": 32}}
STAGES = [Stage(i, f"dense sst2 {i}", RECIPE, 0, cost={"seconds": 10.0}) for i in "abcd"]


def test_one_line_for_each_change(tmp_path: Path) -> None:
    out = io.StringIO()
    with Progress(STAGES, Store(str(tmp_path)), out) as progress:
        tell = progress.on_event
        tell(Event("finished", "a", {"status": "done"}))  # found finished: counted only
        tell(Event("finished", "of another plan", {"status": "done"}))
        tell(Event("started", "b", time=100.0))
        tell(Event("started", "b", reason="its process died; started again (1 of 3)", time=100))
        tell(Event("finished", "b", {"status": "not_converged", "reason": "NaN"}, time=130.0))
        tell(Event("started", "c", time=130.0))
        tell(Event("held", "c", reason="run by driver X"))
        tell(Event("started", "c", time=140.0))
        tell(Event("failed", "c", reason="no [data] here", time=141.0))
        tell(Event("blocked", "d", reason="parent dense sst2 c failed: no [data] here"))
        assert progress.counts().startswith("2/4 done, 1 failed, 1 blocked, about 0 s left")
    assert out.getvalue().splitlines() == [
        "[1/4] started  dense sst2 b",
        "[1/4] started  dense sst2 b: its process died; started again (1 of 3)",
        "[2/4] not converged in 30 s  dense sst2 b: NaN",
        "[2/4] started  dense sst2 c",
        "[2/4] waiting  dense sst2 c: run by driver X",
        "[2/4] started  dense sst2 c",
        f"[2/4] failed in 1 s  dense sst2 c: no [data] here  (log: {tmp_path}/stages/c/log.txt)",
        "[2/4] blocked  dense sst2 d: parent dense sst2 c failed: no [data] here",
    ]


def test_time_left_is_the_estimates_as_they_have_proved_and_shared_by_those_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress_of.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(progress_of.time, "time", lambda: clock.now)
    progress = Progress(STAGES, Store(str(tmp_path)), io.StringIO())
    for name in "ab":
        progress.on_event(Event("started", name, time=0.0))
    assert progress.seconds_left() is None
    progress.on_event(Event("finished", "a", {"status": "done"}, time=20.0))  # ten were estimated
    clock.now = 20.0
    # b should end about now; c and d take twenty each, two at once
    assert progress.seconds_left() == pytest.approx(20.0)
    progress.on_event(Event("failed", "b", reason="bad", time=20.0))
    progress.on_event(Event("started", "c", time=20.0))
    clock.now = 30.0
    # c has ten to go and d twenty; of thirty seconds fifty were worked
    assert progress.seconds_left() == pytest.approx(30.0 / (50.0 / 30.0))


def test_the_table_shows_epoch_rate_and_time_left(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    progress = Progress(STAGES, store, io.StringIO())
    folder = store.folder("a")
    record = {"steps": 100, "epochs": 2, "samples_per_second": 64.2}
    folder.append({**record, "step": 5, "epoch": 0.1, "time": 50.0})  # of a run before this one
    progress.on_event(Event("started", "a", time=100.0))
    progress.table()
    assert progress._running["a"].row() == ("dense sst2 a", "", "", "")
    for step, time, left in ((10, 101.0, "45 s"), (30, 105.0, "35 s")):
        folder.append({**record, "step": step, "epoch": step / 50, "time": time})
        progress._running["a"].read = 0.0
        console = Console(file=io.StringIO(), width=100, record=True)
        console.print(progress.table())
        lines = console.export_text().splitlines()
        expected = f"dense sst2 a {step / 50:.1f}/2 64/s {left}".split()
        assert lines[1].split() == expected
        assert lines[2].startswith("train 0/4")
        assert "0/4 done;" in lines[3]
    folder.append({"step": 30, "epoch": 1, "metrics": {"accuracy": 90.0}, "time": 106.0})
    progress._running["a"].read = 0.0
    progress.table()
    assert progress._running["a"].row()[1] == "0.6/2"  # an evaluation says nothing of speed


def test_a_run_that_waits_for_room_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("obert_sweeps.sweep.progress.time.monotonic", lambda: now)
    progress = Progress([Stage("a", "", {}, 0)], Store(str(tmp_path)), io.StringIO())

    def shown() -> str:
        console = Console(file=io.StringIO(), width=100, record=True)
        console.print(progress.table())
        return console.export_text()

    assert "ray status" not in shown()
    now += 40
    assert "ray status" in shown()
    progress.on_event(Event("started", "a"))
    assert "ray status" not in shown()
    progress.on_event(Event("held", "a"))  # has just stopped
    assert "ray status" not in shown()


def test_kinds_of_stages_are_counted_until_they_have_ended(tmp_path: Path) -> None:
    stages = [Stage(f"{k}{i}", "", {}, 0, tags={"role": k}) for k in "xyz" for i in range(2)]
    stages += [Stage(f"k{i}", "", {}, 0, tags={"role": f"kind{i}"}) for i in range(6)]
    progress = Progress(stages, Store(str(tmp_path)), io.StringIO())
    for name in ("x0", "x1", "y0"):
        progress.on_event(Event("finished", name, {"status": "done"}))
    progress.on_event(Event("failed", "z1", reason="bad"))
    assert progress.by_kind() == (
        "y 1/2, z 1/2, kind0 0/1, kind1 0/1, kind2 0/1, kind3 0/1 and 2 more kinds"
    )


def test_a_terminal_gets_the_table_and_what_went_wrong(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with Progress(STAGES, Store(str(tmp_path)), out) as progress:
        progress.on_event(Event("started", "a"))
        progress.on_event(Event("finished", "a", {"status": "done"}))
        progress.on_event(Event("failed", "b", reason="bad"))
    text = out.getvalue()
    assert "failed  dense sst2 b: bad  (log: " in text
    assert "started  dense sst2 a" not in text and "1/4 done, 1 failed" in text
