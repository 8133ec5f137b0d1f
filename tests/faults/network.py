"""A network of one cable, for real: a namespace of its own for the far end, and a forwarder between two TUN devices
that loses, delays, reorders, duplicates, throttles and falls silent at the test's word.

Both ends are the kernel's own TCP and UDP, so that retransmission, back-off and full buffers are the real ones. A
process that waits on a pipe keeps the namespace: when the test's process ends, in whatever way, the pipe closes, and
namespace and devices are gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Self

import pytest

_TUN = Path("/dev/net/tun")
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_MTU = 1500
_LOOK_S = 0.02
_READS = 64  # of one device before the other has its turn
_HINT = "run it as root with /dev/net/tun (in a container: --cap-add NET_ADMIN --device /dev/net/tun)"
_numbers = itertools.count(os.getpid() * 64)


@dataclass
class Way:
    """One direction of the cable. All of it may be set at any time.

    loss, reorder, duplicate: the share of packets. jitter_s: added to the delay at random, keeping the order.
    held_back_s: how much later a reordered packet comes. bytes_per_s: None for as fast as it goes; what does not fit
    into `queue_bytes` before a bottleneck is dropped. silent: nothing passes, and nobody is told.
    """

    loss: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    reorder: float = 0.0
    held_back_s: float = 0.03
    duplicate: float = 0.0
    bytes_per_s: float | None = None
    queue_bytes: int = 64 * 1024
    silent: bool = False
    passed: int = 0
    lost: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    _queue: list[tuple[float, int, bytes]] = field(default_factory=list)
    _order: int = 0
    _last_s: float = 0.0
    _free_s: float = 0.0
    _hurries: bool = False

    def hurry(self) -> None:
        """Let out what is under way now, with the next look at the clock."""
        self._hurries = True

    def take(self, packet: bytes, now_s: float) -> None:
        """A packet goes in."""
        if self.silent or self.chance.random() < self.loss:
            self.lost += 1
            return
        due_s = now_s
        if self.bytes_per_s is not None:
            free_s = max(now_s, self._free_s)
            if (free_s - now_s) * self.bytes_per_s > self.queue_bytes:
                self.lost += 1
                return
            due_s = self._free_s = free_s + len(packet) / self.bytes_per_s
        due_s += self.delay_s + self.chance.random() * self.jitter_s
        if self.chance.random() < self.reorder:
            due_s += self.held_back_s
        else:
            due_s = self._last_s = max(due_s, self._last_s)
        for _ in range(2 if self.chance.random() < self.duplicate else 1):
            self._order += 1
            heapq.heappush(self._queue, (due_s, self._order, packet))

    def release(self, now_s: float) -> list[bytes]:
        """The packets that come out by now."""
        out = []
        if self._hurries:
            self._hurries, self._last_s, self._free_s = False, 0.0, 0.0
            now_s = float("inf")
        while self._queue and self._queue[0][0] <= now_s:
            packet = heapq.heappop(self._queue)[2]
            if self.silent:
                self.lost += 1
            else:
                out.append(packet)
                self.passed += 1
        return out

    @property
    def next_s(self) -> float | None:
        """When the next packet comes out."""
        return self._queue[0][0] if self._queue else None


class Network:
    """`with Network() as network:` gives an empty machine at `network.address`, at the far end of a cable.

    `down` is the way from there to here, `up` the way from here to there. `inside(command)` is a command line that runs
    over there.
    """

    def __init__(self) -> None:
        number = next(_numbers) % 32_768
        # 198.18.0.0/15 is set aside for testing networks (RFC 2544): nobody's cameras live there.
        base = (198 << 24 | 18 << 16) + 4 * number
        self.here, self.address = (".".join(map(str, (base + end).to_bytes(4, "big"))) for end in (1, 2))
        self.down, self.up = Way(), Way()
        self._holder: subprocess.Popen[bytes] | None = None
        self._devices: list[int] = []
        self._stop = os.pipe()
        self._thread = threading.Thread(target=self._forward, name="cable", daemon=True)

    @property
    def ways(self) -> tuple[Way, Way]:
        """Both directions."""
        return self.down, self.up

    def impair(self, **settings: object) -> None:
        """Set attributes of both directions."""
        for way in self.ways:
            for name, value in settings.items():
                assert hasattr(way, name), name
                setattr(way, name, value)

    def heal(self) -> None:
        """Both directions carry everything at once again."""
        perfect = Way()
        names = ("loss", "delay_s", "jitter_s", "reorder", "duplicate", "bytes_per_s", "silent")
        self.impair(**{name: getattr(perfect, name) for name in names})
        for way in self.ways:
            way.hurry()

    def inside(self, command: Sequence[str]) -> list[str]:
        """`command`, to be run at the far end."""
        assert self._holder is not None
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *command]

    def __enter__(self) -> Self:
        require_networks()
        self.open()
        return self

    def open(self) -> None:
        """Make it. Raises OSError where that can't be done."""
        try:
            self._holder = subprocess.Popen(
                ["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
            )
            self._wait_for_namespace(self._holder.pid)
            for end, there in ((self.here, False), (self.address, True)):
                device, name = _tun()
                self._devices.append(device)
                if there:
                    _run(["ip", "link", "set", name, "netns", str(self._holder.pid)])
                self._set_up(name, end, there)
            self._thread.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _wait_for_namespace(pid: int) -> None:
        ours, deadline = os.readlink("/proc/self/ns/net"), time.monotonic() + 5
        while True:
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/ns/net") != ours:
                    return
            if time.monotonic() > deadline:
                raise OSError(f"no network namespace: {_HINT}")
            time.sleep(0.002)

    def _set_up(self, name: str, address: str, there: bool) -> None:
        commands = [["ip", "addr", "add", f"{address}/30", "dev", name], ["ip", "link", "set", name, "up"]]
        if there:
            commands.append(["ip", "link", "set", "lo", "up"])
        for command in commands:
            _run(self.inside(command) if there else command)

    def close(self) -> None:
        """Take it away; what runs at the far end must have ended."""
        os.write(self._stop[1], b".")
        if self._thread.is_alive():
            self._thread.join()
        for descriptor in (*self._devices, *self._stop):
            os.close(descriptor)  # with its descriptor a device is gone
        self._devices.clear()
        if self._holder is not None:
            assert self._holder.stdin is not None
            self._holder.stdin.close()
            self._holder.wait()

    def _forward(self) -> None:
        here, there = self._devices
        legs = ((here, self.up, there), (there, self.down, here))
        poller = select.poll()  # select() knows no descriptors past 1,023
        for descriptor in (here, there, self._stop[0]):
            poller.register(descriptor, select.POLLIN)
        while True:
            due_s = min((way.next_s for way in self.ways if way.next_s is not None), default=float("inf"))
            ready = [found for found, _ in poller.poll(1000 * max(0.0, min(_LOOK_S, due_s - time.monotonic())))]
            if self._stop[0] in ready:
                return
            for source, way, sink in legs:
                if source in ready:
                    _take_in(source, way)
                for packet in way.release(time.monotonic()):
                    with contextlib.suppress(OSError):  # a device that is full or going down loses it, as devices do
                        os.write(sink, packet)


def _take_in(device: int, way: Way) -> None:
    now_s = time.monotonic()
    with contextlib.suppress(BlockingIOError):
        for _ in range(_READS):
            packet = os.read(device, _MTU + 100)
            if packet[0] >> 4 == 4:  # the kernel's own chatter in IPv6 is nobody's here
                way.take(packet, now_s)


def _tun() -> tuple[int, str]:
    """A new TUN device: its descriptor, which keeps it, and its name."""
    device = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        answer = fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"cable%d", _IFF_TUN | _IFF_NO_PI))
    except OSError:
        os.close(device)
        raise
    return device, answer[:16].rstrip(b"\0").decode()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


@cache
def _why_not() -> str | None:
    missing = [name for name in ("ip", "nsenter", "unshare") if shutil.which(name) is None]
    if missing:
        return f"no {', '.join(missing)}: apt-get install iproute2 util-linux"
    if os.geteuid() or not _TUN.exists():
        return f"no right to make networks: {_HINT}"
    try:
        network = Network()
        network.open()
        network.close()
        return None
    except OSError as error:
        return f"no networks can be made here ({error}): {_HINT}"


def require_networks() -> None:
    """Skip the test, with the reason and what would help, where no namespace or TUN device can be made."""
    reason = _why_not()
    if reason is not None:
        pytest.skip(reason)
