"""Two hosts on this machine: a network namespace each, named as its address, and a cable between them."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

LOCK = Path(tempfile.gettempdir(), "ktr_two_hosts.lock")
CARDS = {"10.77.0.1": "ktr-1", "10.77.0.2": "ktr-2"}


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def on_host(host: str) -> list[str]:
    """The start of a command line that runs the rest of it on a host."""
    return ["ip", "netns", "exec", host]


def cut_cable() -> None:
    ip("-n", "10.77.0.2", "link", "set", CARDS["10.77.0.2"], "down")


def two_hosts() -> Iterator[list[str]]:
    """Their addresses, while they are there, of one test at a time; skips where namespaces cannot be made."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and iproute2's ip")
    with LOCK.open("w") as lock:  # their names are the machine's, whoever else runs tests on it
        flock(lock, LOCK_EX)
        _remove()
        try:
            ip("link", "add", "ktr-1", "type", "veth", "peer", "name", "ktr-2")
            for host, card in CARDS.items():
                ip("netns", "add", host)
                ip("link", "set", card, "netns", host)
                ip("-n", host, "address", "add", f"{host}/24", "dev", card)
                ip("-n", host, "link", "set", card, "up")
                ip("-n", host, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            _remove()
            pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
        yield [*CARDS]
        _remove()


def _remove() -> None:
    for host in CARDS:
        subprocess.run(["ip", "netns", "delete", host], capture_output=True)
