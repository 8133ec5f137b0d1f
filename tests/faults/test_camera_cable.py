"""The cable that the network faults are made with does what it is told."""

from __future__ import annotations

import itertools
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.network import Network, Way

_ECHO = """
import socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 7))
print("up", flush=True)
while True:
    data, who = udp.recvfrom(2000)
    udp.sendto(data, who)
"""


def sent(way: Way, count: int = 1000, gap_s: float = 0.001, size: int = 1000) -> list[tuple[float, int]]:
    """When each of `count` packets that go in evenly comes out, and its number."""
    out: list[tuple[float, int]] = []
    for step in itertools.count():
        if step >= count and way.next_s is None:
            break
        now_s = 100.0 + step * gap_s
        if step < count:
            way.take(step.to_bytes(4, "big") + bytes(size - 4), now_s)
        out += [(now_s, int.from_bytes(packet[:4], "big")) for packet in way.release(now_s)]
    return out


def test_a_perfect_way_changes_nothing() -> None:
    """Everything comes out at once and in order."""
    assert sent(Way(), 100) == [(100.0 + number * 0.001, number) for number in range(100)]


def test_loss_and_duplicates_come_as_often_as_told() -> None:
    """A tenth lost is a tenth missing; a tenth doubled is a tenth more."""
    way = Way(loss=0.1)
    assert 850 <= len(sent(way)) <= 950 and way.lost + way.passed == 1000
    assert 1050 <= len(sent(Way(duplicate=0.1))) <= 1150


def test_delay_jitters_in_order_and_reordering_does_not() -> None:
    """With jitter packets come late by the delay and up to the jitter more, in order; reordered ones are overtaken."""
    out = sent(Way(delay_s=0.2, jitter_s=0.05))
    assert [number for _, number in out] == list(range(1000))
    assert all(0.199 <= at_s - 100 - number * 0.001 <= 0.252 for at_s, number in out)
    numbers = [number for _, number in sent(Way(reorder=0.05))]
    assert sorted(numbers) == list(range(1000)) and numbers != sorted(numbers)


def test_a_bottleneck_lets_so_much_through_and_drops_what_does_not_fit() -> None:
    """At half the rate half comes through, and what waits is bounded."""
    way = Way(bytes_per_s=500_000.0, queue_bytes=50_000)
    out = sent(way)
    assert 500 <= len(out) <= 560 and way.lost == 1000 - len(out)
    assert all(at_s - 100 - number * 0.001 <= 0.105 for at_s, number in out)


def test_chance_repeats_itself() -> None:
    """The same seed loses the same packets."""
    assert sent(Way(loss=0.3, chance=random.Random(5))) == sent(Way(loss=0.3, chance=random.Random(5)))


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


def test_it_is_a_network_and_leaves_nothing_behind(network: Network) -> None:
    """A datagram goes there and back with the delays of both ways; silenced, it does not; afterwards no device is
    left."""
    devices = {path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith("cable")}
    assert devices
    echo = subprocess.Popen(network.inside([sys.executable, "-c", _ECHO]), stdout=subprocess.PIPE)
    try:
        assert echo.stdout is not None and echo.stdout.readline() == b"up\n"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(5)
            for delay_s in (0.0, 0.1):
                network.impair(delay_s=delay_s)
                begun_s = time.monotonic()
                udp.sendto(b"hello", (network.address, 7))
                assert udp.recv(100) == b"hello"
                assert time.monotonic() - begun_s >= 2 * delay_s
            network.impair(silent=True)
            udp.settimeout(0.5)
            udp.sendto(b"hello", (network.address, 7))
            with pytest.raises(TimeoutError):
                udp.recv(100)
    finally:
        echo.kill()
        echo.wait()
        echo.stdout.close()
    with Network():
        pass
    assert {path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith("cable")} == devices
