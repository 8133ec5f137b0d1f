"""Subscribers as they are in the wild, over bare sockets: those who leave after a while, read slowly, read nothing,
want the past first, or vanish in mid-sentence."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable
from urllib.parse import quote, urlsplit

from streamer.bench.unrest import pause

_ANSWER_S = 10.0
# A subscriber that does not read is soon blocked where the kernel takes little for it.
_RECEIVE_BUFFER = 4096
_KEY = "c3RyZWFtZXItdmlzaXRvcg=="  # any 16 bytes (RFC 6455, section 4.1)


class Visitors:
    """`count` subscribers at any time, each replaced by another kind when it leaves.

    Args:
        past: a cursor of some time ago, None while there is none.
    """

    KINDS = ("brief", "slow", "mute", "past", "vanishing")

    def __init__(self, url: str, count: int, chance: random.Random, past: Callable[[], str | None]) -> None:
        self._url = urlsplit(url)
        self._count = count
        self._chance = chance
        self._past = past
        self.seen: Counter[str] = Counter()

    async def run(self, over: asyncio.Event) -> None:
        """Come and go until `over`."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._count):
                tasks.create_task(self._place(number, over), name=f"visitor-{number}")

    async def _place(self, number: int, over: asyncio.Event) -> None:
        while not over.is_set():
            kind = self.KINDS[(number + sum(self.seen.values())) % len(self.KINDS)]
            try:
                await self._visit(kind, over)
                self.seen[kind] += 1
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                self.seen["refused"] += 1  # the hub or the store is away just now
                await pause(over, 1.0)

    async def _visit(self, kind: str, over: asyncio.Event) -> None:
        stay_s = self._chance.uniform(1.0, 10.0)
        reader, writer = await self._connect(kind)
        try:
            if kind == "mute":
                await pause(over, 2 * stay_s)
            elif kind == "slow":
                await _read(reader, over, stay_s, bytes_at_once=64, pause_s=0.05)
            else:
                await _read(reader, over, stay_s, bytes_at_once=65_536, pause_s=0.0)
        finally:
            if kind == "vanishing":
                sock: socket.socket = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):  # it is closed already
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort() if kind in ("vanishing", "mute") else writer.close()

    async def _connect(self, kind: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = str(self._url.hostname), int(self._url.port or 80)
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        if kind in ("mute", "slow"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        try:
            async with asyncio.timeout(_ANSWER_S):
                await asyncio.get_running_loop().sock_connect(sock, (host, port))
                reader, writer = await asyncio.open_connection(sock=sock, limit=_RECEIVE_BUFFER)
                since = self._past() if kind == "past" else None
                query = f"?since={quote(since)}" if since else ""
                writer.write(
                    f"GET {self._url.path}{query} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
                    f"Connection: Upgrade\r\nSec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
                )
                head = await reader.readuntil(b"\r\n\r\n")
        except BaseException:
            sock.close()
            raise
        if not head.startswith(b"HTTP/1.1 101"):
            writer.close()
            raise ConnectionRefusedError(head.partition(b"\r\n")[0].decode(errors="replace"))
        return reader, writer


async def _read(
    reader: asyncio.StreamReader, over: asyncio.Event, stay_s: float, *, bytes_at_once: int, pause_s: float
) -> None:
    loop = asyncio.get_running_loop()
    end_s = loop.time() + stay_s
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(end_s):
            while await reader.read(bytes_at_once):
                await pause(over, pause_s)
                if over.is_set():
                    return
