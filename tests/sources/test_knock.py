"""Waiting for a host to answer."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

from streamer.sources.knock import knock
from tests.faults.network import Network

_LISTEN = """
import socket, sys
listening = socket.create_server(("0.0.0.0", 554))
print("up", flush=True)
sys.stdin.read()
"""


def test_who_listens_and_who_refuses_answers() -> None:
    """An open port and a closed one both answer at once; so does, to be told elsewhere, a name that is none."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert knock("127.0.0.1", port, 5.0, threading.Event())
    assert knock("127.0.0.1", port, 5.0, threading.Event())
    assert knock("no-such-host.invalid", 554, 5.0, threading.Event())


def test_a_host_that_comes_back_is_found_at_once() -> None:
    """Silent past the kernel's second attempt, a host that is back is noticed within a second; one that
    stays silent is given up in time, and so is one that nobody waits for any more."""
    with Network() as network:
        camera = subprocess.Popen(
            network.inside([sys.executable, "-c", _LISTEN]), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert camera.stdout is not None and camera.stdout.readline() == b"up\n"
            network.impair(silent=True)
            assert not knock(network.address, 554, 0.6, threading.Event())
            stop = threading.Event()
            stop.set()
            assert not knock(network.address, 554, 60.0, stop)
            healed_s: list[float] = []
            threading.Timer(1.3, lambda: (network.heal(), healed_s.append(time.monotonic()))).start()
            assert knock(network.address, 554, 20.0, threading.Event())
            assert time.monotonic() - healed_s[0] < 1.0
        finally:
            camera.communicate()
