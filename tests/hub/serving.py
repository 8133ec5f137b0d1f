"""A hub in the test's own process, subscribers of it, and what they got."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from streamer.hub.server import Hub
from streamer.hub.settings import HubSettings
from streamer.publishing.publish import Publisher
from streamer.storage.store import Store
from tests.stores import Valkey, segment


class Serving:
    """A hub in this process, so that its insides can be looked at."""

    def __init__(self, settings: HubSettings) -> None:
        self.hub = Hub(settings)
        self._stop = asyncio.Event()
        self._started = asyncio.Event()

    async def __aenter__(self) -> Serving:
        self._task = asyncio.create_task(self.hub.serve_until(self._stop, self._started))
        await asyncio.wait([self._task, asyncio.create_task(self._started.wait())], return_when="FIRST_COMPLETED")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        self._stop.set()
        await self._task

    def url(self, query: str = "") -> str:
        return f"ws://127.0.0.1:{self.hub.port}/v1/subscribe{'?' + query if query else ''}"


@pytest_asyncio.fixture(name="serving")
async def serving_fixture(valkey: Valkey) -> AsyncIterator[Serving]:
    """A hub on the fresh store, on a port of its own."""
    async with Serving(HubSettings(redis_url=valkey.url, port=0, stalled_s=1.0)) as serving:
        yield serving


@pytest_asyncio.fixture(name="publisher")
async def publisher_fixture(store: Store) -> AsyncIterator[Publisher]:
    """A publisher into the fresh store."""
    async with Publisher(store) as publisher:
        yield publisher


async def receive(peer: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        message: dict[str, Any] = json.loads(await peer.recv())
        return message


async def receive_until(peer: ClientConnection, last: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    found = [await receive(peer)]
    while not last(found[-1]):
        found.append(await receive(peer))
    return found


def seq_is(seq: int) -> Callable[[dict[str, Any]], bool]:
    return lambda message: message.get("seq") == seq


async def published(publisher: Publisher, first: int, last: int, stream: str = "door") -> None:
    for seq in range(first, last):
        publisher.publish(stream, [segment(stream, seq)])
        if publisher.waiting > 1000:
            await publisher.drain(10)
    assert await publisher.drain(10) == 0


@contextlib.asynccontextmanager
async def not_reading(url: str) -> AsyncIterator[ClientConnection]:
    """A subscriber whose socket is small and not read (until its transport is told to)."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    host, port = url.split("/")[2].split(":")
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    async with connect(url, sock=raw, max_queue=None, ping_interval=None, close_timeout=0.1) as peer:
        peer.transport.pause_reading()
        yield peer


async def status_of(url: str, headers: dict[str, str]) -> int:
    try:
        async with connect(url, additional_headers=headers):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


def accounted(messages: list[dict[str, Any]]) -> int:
    """How many segments these messages account for, checking that none is out of place."""
    expected = 0
    for message in messages:
        if message["type"] == "gap":
            expected += message["count"]
        else:
            assert message["seq"] == expected
            expected += 1
    return expected
