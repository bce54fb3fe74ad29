"""The same sweep into a folder and into a bucket, as a person runs it; seen through every verb."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from s3_server import s3_server

from obert_sweeps.store import Store
from obert_sweeps.store.place import place_at

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

REQUEST = [
    "cells=['t5/cola/*/dense','t5/cola/*/magnitude/*']",
    "cluster=inline",
    "tracker=none",
    "format=json",
    "cluster.checkpoint_seconds=5",
]
TIMES = ("cost", "newest", "effort", "environment", "seconds", "time", "host", "rates")


def ask(verb: str, store: str, *more: str, code: int = 0) -> Any:
    command = [sys.executable, "-m", "obert_sweeps", verb, *REQUEST, f"store={store}", *more]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def timeless(value: Any) -> Any:
    """What two runs must share: all but times and places."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if not any(t in k for t in TIMES)}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def test_a_folder_and_a_bucket_give_the_same_report(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "this-machine"))
    with s3_server(monkeypatch) as bucket:
        folder = str(tmp_path / "runs")
        here, there = ask("run", folder), ask("run", bucket)
        assert timeless(here) == timeless(there)
        assert [c["verdict"] for c in there["cells"]] == ["stand_in"] * 2
        stored = json.loads(place_at(bucket).read("report/report.json"))
        assert timeless(stored) == timeless(there)

        stages = Store(folder).ids()
        assert Store(bucket).ids() == stages
        for stage in stages:
            one, other = Store(folder).folder(stage), Store(bucket).folder(stage)
            assert one.place.names() == other.place.names()
            models = [f.read_json("model/manifest.json") for f in (one, other)]
            assert models[0] == models[1] and models[0]

        # Another machine: nothing but the bucket.
        shutil.rmtree(tmp_path / "this-machine")
        assert timeless(ask("report", bucket)) == timeless(there)
        status = ask("status", bucket)
        assert status["counts"] == {"done": len(stages)} and status["bytes"] > 10**5
        # A new stage there goes on from models that are fetched.
        more = ask("run", bucket, "cells='t5/cola/*/l0/*'")
        assert [c["verdict"] for c in more["cells"]] == ["stand_in"]
        freed = ask("gc", bucket, "confirm=true")
        assert {item["what"] for item in freed["items"]} == {"model", "copies"}
        assert freed["freed"] == freed["bytes"] > 10**5
        assert ask("gc", bucket)["bytes"] == 0
        assert timeless(ask("report", bucket)) == timeless(there)
