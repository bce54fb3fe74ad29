"""A cluster that is not there is said to be missing soon; what is said names the way on."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from obert_sweeps.schema import Interrupted, RequestError
from obert_sweeps.sweep import ray_session
from obert_sweeps.sweep.ray_session import session


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_listens(tmp_path: Path, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{scheme}127.0.0.1:{server.getsockname()[1]}"
    began = time.monotonic()
    with (
        pytest.raises(RequestError, match=f"cluster.address={address} .*refused.* ray status"),
        session({"address": address, "wait_seconds": 0}, tmp_path),
    ):
        pytest.fail("connected to nothing")
    assert time.monotonic() - began < 20  # Ray by itself: over a minute
    assert not list(tmp_path.glob(".tune-*"))


def test_a_cluster_with_a_token_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def client(address: str) -> None:
        raise ray_session.ray.exceptions.AuthenticationError("RPC error: InvalidAuthToken")

    monkeypatch.setattr(ray_session, "GcsClient", client)
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with (
            pytest.raises(RequestError, match="has a token.* export RAY_AUTH_MODE=token"),
            session({"address": address, "wait_seconds": 300}, tmp_path),
        ):
            pytest.fail("connected without the token")
    assert time.monotonic() - began < 20


def test_a_sigterm_that_ray_takes_is_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**wanted: object) -> None:
        raise SystemExit(signal.SIGTERM)  # as the handler that ray.init sets does

    monkeypatch.setattr(ray_session.ray, "init", init)
    with pytest.raises(Interrupted) as stop, session({"address": "local"}, tmp_path):
        pytest.fail("started")
    assert stop.value.exit_code == 143
