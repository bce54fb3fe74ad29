"""What W&B costs a sweep: the same stages with W&B offline, out of reach and refusing, and without.

    python benchmarks/tracking.py                  demo cells of SST-2, each way once, in turn
    python benchmarks/tracking.py --rounds 3 --json tracking.json

Out of reach: nobody listens at the server's address. Refusing: a server on loopback that answers
every request with 429 (too many requests) or 401 (bad key). The peer is W&B offline, which every
sweep has by default. `ratio` is the worst way's training time over the peer's; what was found out
must be the same every way. Processor time is compared, since other programs may be running, and
wall time is told.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WAYS = ("none", "offline", "out of reach", "429", "401")
NOBODY = "http://127.0.0.1:9"


@contextmanager
def refusing(status: int) -> Iterator[str]:
    """The address of a server that answers everything with `status`."""

    class Refusal(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST = do_PUT = _answer

        def log_message(self, *told: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


def sweep(way: str, cells: str, home: Path) -> dict[str, Any]:
    """One sweep from nothing: seconds of its training stages and what they found."""
    store = home / "runs"
    environment = {**os.environ, "HOME": str(home), "WANDB_API_KEY": "k" * 40}
    said = ["preset=demo", f"cells={cells}", f"store={store}", "cluster.cpus=1"]
    if way != "offline":
        said.append("tracker=none" if way == "none" else "tracker.mode=online")
    with refusing(int(way)) if way.isdigit() else nullcontext(NOBODY) as address:
        return _run(said, {**environment, "WANDB_BASE_URL": address}, store)


def _run(said: list[str], environment: dict[str, str], store: Path) -> dict[str, Any]:
    begun = time.monotonic()
    command = [sys.executable, "-m", "obert_sweeps", "run", *said]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    wall, cpu, seconds, found = time.monotonic() - begun, 0.0, 0.0, {}
    for file in sorted(store.glob("stages/*/result.json")):
        result = json.loads(file.read_text())
        cpu, seconds = cpu + result["cost"]["cpu_seconds"], seconds + result["cost"]["seconds"]
        found[file.parent.name] = result["metrics"]
    kept = len(list(store.glob("wandb/**/*.wandb")))
    return {"wall": wall, "cpu": cpu, "seconds": seconds, "kept": kept, "found": found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", default="['t5/sst2/*']", help="which cells of the demo")
    parser.add_argument("--rounds", type=int, default=1, help="each way so often, in turn")
    parser.add_argument("--json", type=Path, help="write the figures here")
    chosen = parser.parse_args()
    times: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(chosen.rounds):
        for way in WAYS:
            with tempfile.TemporaryDirectory() as home:
                times[way].append(sweep(way, chosen.cells, Path(home)))
            last = times[way][-1]
            print(
                f"{way:13} stages {last['cpu']:7.1f} CPU-s {last['seconds']:7.1f} s,"
                f" all {last['wall']:7.1f} s, {last['kept']} runs kept",
                flush=True,
            )
    found = [run["found"] for runs in times.values() for run in runs]
    if any(other != found[0] for other in found):
        sys.exit("the ways differ in what they found")
    cpu = {way: statistics.median(run["cpu"] for run in runs) for way, runs in times.items()}
    ratio = max(cpu[way] for way in WAYS[2:]) / cpu["offline"]
    print(f"ratio {ratio:.3f}: the worst of {', '.join(WAYS[2:])} over offline; same results")
    if chosen.json:
        for run in (run for runs in times.values() for run in runs):
            del run["found"]
        chosen.json.write_text(json.dumps({"ratio": ratio, "ways": times}, indent=1))


if __name__ == "__main__":
    main()
