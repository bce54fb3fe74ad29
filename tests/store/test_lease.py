"""Leases between real processes: one holder, take-over of the dead and the hung, no clocks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from obert_sweeps.store import Store
from obert_sweeps.store import lease as leases
from obert_sweeps.store.lease import Held, Lease, LeaseLost, LeaseWatch
from obert_sweeps.store.place import FolderPlace, Place

HOLD = """
import sys, time
from obert_sweeps.store import Store
with Store(sys.argv[1], stale_after=1.5, beat_seconds=0.1).folder("s1").lease("driver A"):
    print("held", flush=True)
    time.sleep(60)
"""

# Many takers, each adding one to a counter file under the lease, without any other lock.
COUNT = """
import sys, time
from pathlib import Path
from obert_sweeps.store import Held, Store
root, times = sys.argv[1], int(sys.argv[2])
store = Store(root, stale_after=5, beat_seconds=0.05)
counter = Path(root) / "counter"
while times:
    try:
        with store.folder("s1").lease("taker"):
            value = int(counter.read_text())
            time.sleep(0.002)
            counter.write_text(str(value + 1))
            times -= 1
    except Held:
        time.sleep(0.001)
"""

# All wait for the gate, then take over the same stale lease once; the winner holds on.
RACE = """
import sys, time
from pathlib import Path
from obert_sweeps.store import Held, Store
gate = Path(sys.argv[1]) / "gate"
print("ready", flush=True)
while not gate.exists():
    pass
try:
    with Store(sys.argv[1], stale_after=5, beat_seconds=0.05).folder("s1").lease("taker") as lease:
        time.sleep(1)
        lease.check()
        print("won", flush=True)
except Held:
    print("held", flush=True)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_one_holder_and_release(tmp_path: Path) -> None:
    folder = Store(str(tmp_path)).folder("s1")
    assert folder.lease_state() is None
    with folder.lease("driver A"):
        state = folder.lease_state()
        assert state is not None and state.owner == "driver A"
        assert state.stale is not True
        with pytest.raises(Held, match="driver A"):  # as soon as the counter has moved: 2 s
            with Store(str(tmp_path)).folder("s1").lease("driver B"):
                pass
    assert folder.lease_state() is None
    with Store(str(tmp_path)).folder("s1").lease("driver B"):
        assert len(list(folder.path.glob("lease.*.json"))) == 1


def test_a_killed_holder_is_stale_at_once(tmp_path: Path) -> None:
    holder = start(HOLD, tmp_path)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        folder = Store(str(tmp_path)).folder("s1")  # the usual 30 s: not what is waited for
        with pytest.raises(Held):
            with folder.lease("driver B"):
                pass
        holder.send_signal(signal.SIGKILL)
        time.sleep(0.2)  # not reaped yet: a zombie is no holder
        started = time.monotonic()
        with folder.lease("driver B"):
            assert time.monotonic() - started < 1
    finally:
        holder.kill()
        holder.communicate()


def test_a_suspended_holder_is_overtaken_and_notices(tmp_path: Path) -> None:
    store = Store(str(tmp_path), stale_after=1.0, beat_seconds=0.1)
    code = (
        "import sys\nfrom obert_sweeps.store import LeaseLost, Store\n"
        "folder = Store(sys.argv[1], stale_after=1.0, beat_seconds=0.1).folder('s1')\n"
        "with folder.lease('driver A') as lease:\n"
        "    print('held', flush=True); sys.stdin.readline()\n"
        "    try:\n        folder.write_json('result.json', {'by': 'A'})\n"
        "    except LeaseLost:\n        print('lost', lease.lost.is_set(), flush=True)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGSTOP)
        with store.folder("s1").lease("driver B") as lease:
            holder.send_signal(signal.SIGCONT)
            assert holder.communicate("go\n", timeout=20)[0] == "lost True\n"
            lease.check()
            store.folder("s1").write_json(
                "result.json", {"by": "B", "status": "done", "metrics": {}}
            )
        assert (store.result("s1") or {})["by"] == "B"
        assert store.folder("s1").lease_state() is None
    finally:
        holder.kill()
        holder.communicate()


def foreign(folder: Path, number: int = 1, **change: Any) -> None:
    """A lease of a process on another machine."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "owner": "driver X",
        "host": "elsewhere",
        "machine": "another boot",
        "pid": os.getpid(),
        "process_start": 1,
        "counter": 0,
    }
    (folder / f"lease.{number}.json").write_text(json.dumps({**content, **change}))


def test_a_holder_elsewhere_is_judged_by_watching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(leases.time, "monotonic", lambda: now)
    watch = LeaseWatch(stale_after=30)
    foreign(tmp_path)

    def stale() -> bool | None:
        state = watch.state(FolderPlace(tmp_path))
        assert state is not None
        return state.stale

    assert stale() is None
    now += 29
    assert stale() is None
    foreign(tmp_path, counter=1)  # it lives
    assert stale() is False
    now += 29
    assert stale() is False
    now += 1
    assert stale() is True
    foreign(tmp_path, counter=2)  # and comes back
    assert stale() is False
    foreign(tmp_path, counter=3, released=True)
    assert watch.state(FolderPlace(tmp_path)) is None


def test_the_wall_clock_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(tmp_path)
    os.utime(tmp_path / "lease.1.json", (0, 0))
    watch = LeaseWatch(stale_after=30)
    monkeypatch.setattr(leases.time, "time", lambda: 4e9)
    for _ in range(2):
        state = watch.state(FolderPlace(tmp_path))
        assert state is not None and state.stale is None


def test_a_lease_never_written_goes_stale(tmp_path: Path) -> None:
    (tmp_path / "lease.7.json").touch()  # its holder died between creating and writing
    with Lease(FolderPlace(tmp_path), "driver B", LeaseWatch(0.3), 0.1) as lease:
        assert lease.number == 8


def test_a_reused_pid_is_another_process(tmp_path: Path) -> None:
    foreign(tmp_path, machine=leases.machine(), process_start=1)  # our pid, another start
    state = LeaseWatch(30).state(FolderPlace(tmp_path))
    assert state is not None and state.stale is True


@pytest.mark.parametrize("says, stale", [(PermissionError, None), (ProcessLookupError, True)])
def test_a_holder_whom_the_system_hides_is_judged_by_watching(
    says: type[OSError], stale: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/proc mounted with hidepid: another user's process has no file there, and may live."""

    def kill(pid: int, signum: int) -> None:
        assert (pid, signum) == (7, 0)
        raise says

    monkeypatch.setattr(leases, "process_start", lambda pid: None)
    monkeypatch.setattr(leases.os, "kill", kill)
    foreign(tmp_path, machine=leases.machine(), pid=7, process_start=5)
    watch = LeaseWatch(30)
    state = watch.state(FolderPlace(tmp_path))
    assert state is not None and state.stale is stale
    foreign(tmp_path, machine=leases.machine(), pid=7, process_start=5, counter=1)
    state = watch.state(FolderPlace(tmp_path))
    assert state is not None and state.stale is (stale is not None)


def test_an_old_look_does_not_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A taker that slept between judging lease 1 stale and creating lease 2."""
    foreign(tmp_path)
    watch = LeaseWatch(stale_after=0)
    real = watch.state

    def late(place: Place) -> Any:
        state = real(place)
        monkeypatch.setattr(watch, "state", real)
        (tmp_path / "lease.1.json").unlink()
        foreign(
            tmp_path, 3, machine=leases.machine(), process_start=leases.process_start(os.getpid())
        )
        return state

    monkeypatch.setattr(watch, "state", late)
    slow = Lease(FolderPlace(tmp_path), "slow", watch, 2.0)
    assert slow._take() is False
    assert [p.name for p in tmp_path.glob("lease.*.json")] == ["lease.3.json"]
    watch.stale_after = 30
    with pytest.raises(Held):  # lease 3 was not there before: its holder lives
        slow._take()


def test_takers_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")
    takers = [start(COUNT, tmp_path, 25) for _ in range(4)]
    assert [taker.wait(timeout=60) for taker in takers] == [0] * 4
    assert (tmp_path / "counter").read_text() == "100"
    for taker in takers:
        taker.communicate()


def test_of_many_takers_of_a_stale_lease_one_wins(tmp_path: Path) -> None:
    for attempt in range(3):
        root = tmp_path / str(attempt)
        foreign(root / "stages" / "s1", machine=leases.machine(), process_start=1)
        takers = [start(RACE, root) for _ in range(4)]
        for taker in takers:
            assert taker.stdout is not None and taker.stdout.readline() == "ready\n"
        (root / "gate").touch()
        said = sorted(taker.communicate(timeout=60)[0] for taker in takers)
        assert said == ["held\n", "held\n", "held\n", "won\n"]


def test_a_lost_lease_is_not_released_over_the_new_one(tmp_path: Path) -> None:
    folder = Store(str(tmp_path), stale_after=30, beat_seconds=0.05).folder("s1")
    with folder.lease("driver A") as lease:
        foreign(folder.path, lease.number + 1)
        assert lease.lost.wait(5)
        with pytest.raises(LeaseLost):
            folder.append({"step": 1})
        with pytest.raises(LeaseLost):
            with folder.new_checkpoint(1):
                pass
    assert [p.name for p in folder.path.iterdir()] == ["lease.2.json"]
    state = folder.lease_state()
    assert state is not None and state.owner == "driver X"


def test_a_writer_looks_for_itself_and_does_not_wait_to_be_told(tmp_path: Path) -> None:
    """A result comes between two beats of a holder that was suspended and overtaken."""
    folder = Store(str(tmp_path), stale_after=300, beat_seconds=100).folder("s1")
    with folder.lease("driver A") as lease:
        foreign(folder.path, lease.number + 1)
        with pytest.raises(LeaseLost):
            folder.write_json("result.json", {"status": "done", "metrics": {}})
        with pytest.raises(LeaseLost):
            folder.rewind(0)
    assert folder.result() is None
