"""A receiver of webhooks that can be killed and started again at its address, and writes down what it took."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any, Self

from tests.stores import until


@dataclass(frozen=True, slots=True)
class Taken:
    """One request that was answered: its id, its body, and when its first byte came (monotonic nanoseconds)."""

    id: str
    body: dict[str, Any]
    first_ns: int

    @property
    def alert(self) -> dict[str, Any]:
        data: dict[str, Any] = self.body["data"]
        return data


@dataclass
class Hook:
    """`async with Hook() as hook: SendConfig(url=hook.url, allow_private=True, limit=None)`.

    `taken` holds what it took; with a `status` of 300 or above it takes nothing.
    """

    status: int = 204
    taken: list[Taken] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _open: set[asyncio.Transport] = field(default_factory=set)
    _port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/hook"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill()

    async def start(self) -> None:
        """Listen, at the same port as before."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Peer(self), "127.0.0.1", self._port, reuse_address=True)
        self._port = self._server.sockets[0].getsockname()[1]

    def kill(self) -> None:
        """Nobody listens any more, and every connection breaks, whatever is under way on it."""
        if self._server is not None:
            self._server.close()
        for transport in list(self._open):
            transport.abort()

    async def has(self, count: int, timeout_s: float = 20.0) -> list[Taken]:
        """Wait until so many were taken."""
        await until(lambda: len(self.taken) >= count, timeout_s)
        return self.taken


class _Peer(asyncio.Protocol):
    """One connection, kept alive: requests with a Content-Length, answered one after another."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook
        self._held = b""
        self._first_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._hook._open.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._hook._open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        if not self._held:
            self._first_ns = time.monotonic_ns()
        self._held += data
        head, separator, rest = self._held.partition(b"\r\n\r\n")
        if not separator:
            return
        lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
        headers = {name.strip().lower().decode(): value.strip().decode() for name, _, value in lines}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        self._held = b""
        if self._hook.status < 300:
            self._hook.taken.append(Taken(headers["webhook-id"], json.loads(rest[:length]), self._first_ns))
        self._transport.write(b"HTTP/1.1 %d Said\r\nContent-Length: 0\r\n\r\n" % self._hook.status)
