"""A cluster that is not there is said to be missing soon; what is said names the way on."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from obert_sweeps.schema import RequestError
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
