"""A TCP proxy with a bad temper: it freezes, delays, throttles, cuts and refuses, at the test's word.

Runs in the test's own event loop; a client that blocks must read on a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_CHUNK = 64 * 1024


class Proxy:
    """Relays connections from a port of its own to `port` on `host`.

    `delay_s` holds every byte back for that long; `bytes_per_s` lets no more than that through, each way, a connection
    (None: as much as comes); `refusing` closes new connections at once. They can be set at any time.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.target = (host, port)
        self.port = 0
        self.delay_s = 0.0
        self.bytes_per_s: float | None = None
        self.refusing = False
        self.accepted = 0
        self.relayed_bytes = 0
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._connections)

    def url(self, url: str) -> str:
        """The same URL through the proxy."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{self.port}"))

    def freeze(self) -> None:
        """Nothing passes from now on, and nothing is closed: a cable that hangs by a thread."""
        self._open.clear()

    def thaw(self) -> None:
        """What was held back passes, and all that follows."""
        self._open.set()

    def cut(self) -> None:
        """Reset every connection (RST both ways); new ones are accepted."""
        for writer in tuple(self._writers):
            sock = writer.get_extra_info("socket")
            if sock is not None:
                with contextlib.suppress(OSError):  # it is closed already
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self._writers.add(writer)
        try:
            if not self.refusing:
                await self._relay(reader, writer)
        except OSError:
            pass  # the target is down or a side was cut: the other side sees its connection end
        finally:
            self._writers.discard(writer)
            self._connections.discard(task)
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection(*self.target)
        self._writers.add(behind_writer)
        try:
            async with asyncio.TaskGroup() as both:
                there = both.create_task(self._pump(reader, behind_writer))
                back = both.create_task(self._pump(behind_reader, writer))
                await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
                there.cancel()
                back.cancel()
        except* OSError as group:
            raise ConnectionResetError("a side was cut") from group
        finally:
            self._writers.discard(behind_writer)
            behind_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction. Chunks wait in a short queue for their delay, so that a delay costs no throughput."""
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(self._send(held, writer))
            loop = asyncio.get_running_loop()
            while data := await reader.read(_CHUNK):
                await held.put((loop.time() + self.delay_s, data))
                await self._open.wait()  # frozen, it takes nothing in either: the sender's buffers fill up
            await held.put((loop.time() + self.delay_s, b""))
            await sender

    async def _send(self, held: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await held.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            await self._open.wait()
            if not data:
                return
            writer.write(data)
            await writer.drain()
            self.relayed_bytes += len(data)
            if self.bytes_per_s is not None:
                await asyncio.sleep(len(data) / self.bytes_per_s)
