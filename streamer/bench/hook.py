"""A receiver of webhooks that answers at once, and knows when the first byte about each stream came."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Self


class Hook:
    """`async with Hook() as hook: hook.url`.

    first_ns: when the first byte of the first message about each stream came, in monotonic nanoseconds. messages: all
    that came.
    """

    def __init__(self) -> None:
        self.first_ns: dict[str, int] = {}
        self.messages = 0
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where it listens, on this machine."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Peer(self), "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()


class _Peer(asyncio.Protocol):
    """One connection, kept alive: requests with a Content-Length, one after another."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook
        self._held = b""
        self._began_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._held:
            self._began_ns = time.monotonic_ns()
        self._held += data
        head, end, body = self._held.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        self._held = b""
        self._hook.messages += 1
        self._hook.first_ns.setdefault(json.loads(body)["data"].get("stream", ""), self._began_ns)
        self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0
