"""Memory: a connection that ended is freed at once, and what can't be is collected after enough have."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import connect

from streamer.hub.garbage import collect_garbage
from streamer.publishing.publish import Publisher
from tests.hub.serving import Serving, published, publisher_fixture, receive, serving_fixture
from tests.stores import store_fixture, until, valkey_fixture

__all__ = ["publisher_fixture", "serving_fixture", "store_fixture", "valkey_fixture"]


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing is freed but what nobody refers to."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
async def test_a_connection_that_ended_is_freed_without_the_collector(serving: Serving, publisher: Publisher) -> None:
    """Whether it said goodbye or was cut, and whether anything was sent while it was there or not."""
    for number in range(4):
        async with connect(serving.url()) as peer:
            await receive(peer)
            connection = weakref.ref(next(iter(serving.hub._peers)))
            if number % 2:
                await published(publisher, number, number + 1)
            if number > 1:
                peer.transport.abort()
        await until(lambda connection=connection: connection() is None)  # type: ignore[misc]


async def test_the_collector_runs_after_enough_have_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for those who come, however many, and once for each two thousand who go."""
    departed, collections, before = 0, 0, gc.get_threshold()

    def collect() -> int:
        nonlocal collections
        collections += 1
        return 0

    monkeypatch.setattr("streamer.hub.garbage._POLL_S", 0.001)
    monkeypatch.setattr("streamer.hub.garbage.gc.collect", collect)
    collecting = asyncio.create_task(collect_garbage(lambda: departed))
    try:
        await asyncio.sleep(0.05)
        departed = 1999
        await asyncio.sleep(0.05)
        assert collections == 0
        departed = 2000
        await until(lambda: collections == 1)
        departed = 4100
        await until(lambda: collections == 2)
    finally:
        collecting.cancel()
        gc.set_threshold(*before)
