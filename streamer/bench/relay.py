"""Stands between a service and a camera, to cut their connection and to see when pictures begin to flow."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_CHUNK = 65_536


class Relay:
    """Relays every connection to the camera at `port` of this machine.

    `played_s`: when the camera last answered a PLAY, which it does together with its first keyframe; seconds on the
    monotonic clock, None before the first time.
    """

    def __init__(self, port: int) -> None:
        self.played_s: float | None = None
        self._camera = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    def url(self, url: str) -> str:
        """The same URL through here."""
        assert self._server is not None
        return urlunsplit(urlsplit(url)._replace(netloc=f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"))

    def cut(self) -> None:
        """Break every connection now; new ones are let through."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            camera_reader, camera_writer = await asyncio.open_connection("127.0.0.1", self._camera)
        except OSError:
            writer.transport.abort()  # the camera is down
            self._writers.discard(writer)
            return
        self._writers.add(camera_writer)
        asked = asyncio.Event()

        def asking(data: bytes) -> None:
            if data.startswith(b"PLAY "):
                asked.set()

        def answering(_: bytes) -> None:
            if asked.is_set():
                asked.clear()
                self.played_s = time.monotonic()

        await asyncio.gather(_pass(reader, camera_writer, asking), _pass(camera_reader, writer, answering))
        self._writers -= {writer, camera_writer}


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, see: Callable[[bytes], None]) -> None:
    with contextlib.suppress(OSError):  # a side that is gone ends the connection, as it would without us
        while data := await reader.read(_CHUNK):
            see(data)
            writer.write(data)
            await writer.drain()
    writer.close()
