"""An HTTP server that does whatever a test tells it to, byte by byte, and keeps what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

from streamer.alerts.records import Delivery, Summary
from streamer.messages import Alert


@dataclass(frozen=True)
class Request:
    """One request as it came; header names in lower case. connection: counted from 0."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


def answers(status: int = 204, headers: str = "", body: bytes = b"") -> Behaviour:
    """Answers so, and keeps the connection."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status} Whatever It Says\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    return behave


async def hangs(writer: asyncio.StreamWriter) -> None:
    """Takes the request and says nothing."""
    await asyncio.Event().wait()


async def resets(writer: asyncio.StreamWriter) -> None:
    """Takes the request and breaks the connection."""
    writer.transport.abort()


async def closes(writer: asyncio.StreamWriter) -> None:
    """Takes the request and closes the connection in all order."""
    writer.close()


async def trickles_headers(writer: asyncio.StreamWriter) -> None:
    """Sends headers for ever, slowly enough to look alive."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"X: 1\r\n")
        await asyncio.sleep(0.05)


async def trickles_body(writer: asyncio.StreamWriter) -> None:
    """Says 200, and sends a body that has no end, slowly."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"1\r\nx\r\n")
        await asyncio.sleep(0.05)


async def talks_nonsense(writer: asyncio.StreamWriter) -> None:
    """Answers in no HTTP."""
    writer.write(b"220 mail.example.org ESMTP\r\n\r\n")


class Flood:
    """Says `status`, and sends a body without end as fast as it is taken; `sent` is how many bytes that were."""

    def __init__(self, status: int = 200) -> None:
        self._status = status
        self.sent = 0

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {self._status} OK\r\nContent-Length: 1000000000000\r\n\r\n".encode())
        chunk = b"x" * 65536
        while not writer.is_closing():
            writer.write(chunk)
            await writer.drain()
            self.sent += len(chunk)


class Receiver:
    """`async with Receiver(answers(200)) as receiver: receiver.url`. `behave` may be changed at any time."""

    def __init__(self, behave: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self.behave = behave
        self.requests: list[Request] = []
        self.connections = 0
        self.port = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/hook/T0PSECRET"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection, self.connections = self.connections, self.connections + 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                while not writer.is_closing():
                    self.requests.append(await _read(reader, connection))
                    await self.behave(writer)
        finally:
            writer.close()
            self._tasks.discard(task)


async def _read(reader: asyncio.StreamReader, connection: int) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body, connection)


def delivery(text: str = "Glass at the door, 0.81", summary: Summary | None = None, **changes: object) -> Delivery:
    """A delivery of an alert that fires; `changes` are the alert's."""
    alert = {
        "stream": "door",
        "id": "a1b2c3d4e5f60718",
        "rule": "glass",
        "state": "firing",
        "severity": "warning",
        "key": "door",
        "since": "2026-11-23T04:07:08.500Z",
        "at": "2026-11-23T04:07:09.500Z",
        "late_ms": 12.5,
        "text": text,
        "link": "http://localhost:8080/#/streams/door?at=2026-11-23T04%3A07%3A08.500Z",
    }
    return Delivery(
        id="msg_0001",
        receiver="ops",
        alert=Alert(**(alert | changes)),  # type: ignore[arg-type]
        attempt=1,
        recorded_ns=1_763_870_829_512_000_000,
        summary=summary,
    )
