"""Several hosts on one machine: network namespaces on one bridge, each with an address and a name.

They share files and processes; what they do not share is the network, which can be cut.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from processes import kill_all


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@dataclass
class Host:
    """One namespace. Processes that are started in it keep their signals and their parent."""

    name: str
    address: str
    namespace: str
    link: str  # our end of its cable

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """A process of this host."""
        inside = ["ip", "netns", "exec", self.namespace, "unshare", "--uts", "sh", "-c"]
        script = f'hostname {self.name} && exec "$@"'
        return subprocess.Popen([*inside, script, "sh", *command], text=True, **options)

    def pids(self) -> set[int]:
        done = subprocess.run(
            ["ip", "netns", "pids", self.namespace], capture_output=True, text=True
        )
        return {int(pid) for pid in done.stdout.split()}

    def cut(self) -> None:
        """Pull the cable: nothing goes in or out any more, what runs there runs on."""
        _ip("link", "set", self.link, "down")

    def kill(self) -> None:
        """As if the power went: all its processes at once."""
        kill_all(self.pids())


@contextmanager
def hosts(count: int) -> Iterator[tuple[list[Host], str]]:
    """So many hosts `n0`, `n1`, … and the address of this machine on their network.

    Skips the test where namespaces cannot be made: that takes root and iproute2.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("several hosts on one machine take root, iproute2 and util-linux")
    mark = f"ob{secrets.token_hex(3)}"  # a link's name has at most 15 letters
    network = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}"
    made: list[Host] = []
    try:
        try:
            _ip("link", "add", mark, "type", "bridge")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network of our own here: {error.stderr.strip()}")
        _ip("addr", "add", f"{network}.254/24", "dev", mark)
        _ip("link", "set", mark, "up")
        for number in range(count):
            host = Host(
                f"n{number}", f"{network}.{number + 1}", f"{mark}n{number}", f"{mark}v{number}"
            )
            made.append(host)
            _connect(host, mark, network)
        yield made, f"{network}.254"
    finally:
        for host in made:
            host.kill()
            subprocess.run(["ip", "link", "del", host.link], capture_output=True)
            subprocess.run(["ip", "netns", "del", host.namespace], capture_output=True)
            shutil.rmtree(Path("/etc/netns") / host.namespace, ignore_errors=True)
        subprocess.run(["ip", "link", "del", mark], capture_output=True)


def _connect(host: Host, bridge: str, network: str) -> None:
    inside = ["-n", host.namespace]
    _ip("netns", "add", host.namespace)
    _ip("link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
    _ip("link", "set", host.link, "master", bridge)
    _ip("link", "set", host.link, "up")
    _ip(*inside, "link", "set", "lo", "up")
    _ip(*inside, "addr", "add", f"{host.address}/24", "dev", "eth0")
    _ip(*inside, "link", "set", "eth0", "up")
    _ip(*inside, "route", "add", "default", "via", f"{network}.254")
    # What the host calls itself is its address on the network, as where names are kept in order.
    names = Path("/etc/netns") / host.namespace / "hosts"
    names.parent.mkdir(parents=True, exist_ok=True)
    names.write_text(f"127.0.0.1 localhost\n{host.address} {host.name}\n")
