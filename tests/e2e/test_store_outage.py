"""Publisher, store, hub process and subscriber together, while the store is killed, frozen and emptied.

What a subscriber sees is each segment once and in order, within two seconds of the store's return.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from streamer.commands.watch import Subscription, follow
from streamer.hub.process import HubProcess
from streamer.hub.settings import HubSettings
from streamer.messages import StreamMessage
from streamer.publishing.publish import Publisher
from streamer.storage.store import Store
from tests.stores import Valkey, segment, until, valkey_fixture

__all__ = ["valkey_fixture"]

STREAMS = ("door", "lobby", "yard")
S = 1_000_000_000


class Watcher:
    """A subscriber that comes back by itself, and what it saw."""

    def __init__(self, url: str) -> None:
        self.messages: list[dict[str, Any]] = []
        self._task = asyncio.create_task(self._run(Subscription(url)))

    async def _run(self, subscription: Subscription) -> None:
        async for raw in follow(subscription):
            self.messages.append(json.loads(raw))

    def seqs(self, stream: str) -> list[int]:
        return [m["seq"] for m in self.messages if m["type"] == "segment" and m["stream"] == stream]

    def saw(self, seq: int) -> bool:
        return all(seq in self.seqs(stream)[-200:] for stream in STREAMS)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


class Chain:
    """The whole way from publisher to subscriber, with a clock that hands over a segment a stream each 10 ms."""

    def __init__(self, publisher: Publisher, watcher: Watcher) -> None:
        self.publisher = publisher
        self.watcher = watcher
        self.seq = 0

    async def run(self, count: int) -> None:
        for _ in range(count):
            for stream in STREAMS:
                self.publisher.publish(stream, [segment(stream, self.seq)], time.monotonic_ns() + S // 10)
            self.seq += 1
            await asyncio.sleep(0.01)

    async def settled(self, timeout_s: float) -> float:
        """Seconds until the subscriber has the newest segment of each stream."""
        began = time.monotonic()
        await until(lambda: self.watcher.saw(self.seq - 1), timeout_s)
        return time.monotonic() - began


@pytest_asyncio.fixture(name="chain")
async def chain_fixture(valkey: Valkey) -> AsyncIterator[Chain]:
    """A publisher of three announced streams, a hub process, and a subscriber that is connected."""
    store = Store.connect(valkey.url, response_timeout_s=0.5)
    async with Publisher(store) as publisher, HubProcess(HubSettings(redis_url=valkey.url, port=0)) as hub:
        watcher = Watcher(f"ws://127.0.0.1:{hub.port}")
        await until(lambda: len(watcher.messages) == 1)
        for stream in STREAMS:
            publisher.publish(stream, [StreamMessage(stream=stream, state="live", epoch="e1")])
        yield Chain(publisher, watcher)
        await watcher.stop()
    await store.close()


async def test_a_frozen_store_costs_time_and_nothing_else(chain: Chain, valkey: Valkey) -> None:
    """SIGSTOP for 1 s, twice: no segment is missing or twice, no gap is told, and what came late says so."""
    for _ in range(2):
        await chain.run(30)
        valkey.freeze()
        await chain.run(100)
        assert chain.publisher.outage() is not None
        valkey.thaw()
        assert await chain.settled(5.0) <= 2.0
        assert chain.publisher.outage() is None
    await chain.run(20)
    await chain.settled(5.0)
    for stream in STREAMS:
        assert chain.watcher.seqs(stream) == list(range(chain.seq))
    assert not [m for m in chain.watcher.messages if m["type"] == "gap"]
    late = [m["seq"] for m in chain.watcher.messages if m.get("delivered_late")]
    assert late
    assert chain.publisher.statistics.store_late >= len(late)
    assert chain.publisher.statistics.late == 0


async def test_a_killed_store_comes_back_empty_and_the_stream_goes_on(chain: Chain, valkey: Valkey) -> None:
    """kill -9 in mid-publishing and an empty restart, twice: the subscriber gets every segment once, in order, also
    those that were acknowledged but died with the store before the hub had read them; it is told of each break."""
    for _ in range(2):
        await chain.run(30)
        await valkey.kill()
        await chain.run(50)
        await valkey.start()
        assert await chain.settled(5.0) <= 2.0
    await chain.run(20)
    await chain.settled(5.0)
    for stream in STREAMS:
        assert chain.watcher.seqs(stream) == list(range(chain.seq))
    gaps = [m for m in chain.watcher.messages if m["type"] == "gap"]
    assert len(gaps) == 2
    assert chain.publisher.statistics.dropped == 0


async def test_an_emptied_store_does_not_stop_anybody(chain: Chain, valkey: Valkey) -> None:
    """FLUSHALL while publishing: every segment arrives once, in order, and the subscriber is told."""
    await chain.run(30)
    await valkey.run("FLUSHALL")
    await chain.run(60)
    await chain.settled(5.0)
    for stream in STREAMS:
        assert chain.watcher.seqs(stream) == list(range(chain.seq))
    assert [m["type"] for m in chain.watcher.messages].count("gap") == 1


async def test_a_full_store_is_told_and_ridden_out(chain: Chain, valkey: Valkey) -> None:
    """With no memory left the outage says so; once there is some, all that waited arrives, in order."""
    await chain.run(20)
    await chain.settled(5.0)
    await valkey.run("CONFIG", "SET", "maxmemory", "1")
    await chain.run(50)
    outage = chain.publisher.outage()
    assert outage is not None
    assert "no memory left" in outage.reason
    await valkey.run("CONFIG", "SET", "maxmemory", "0")
    assert await chain.settled(5.0) <= 2.0
    for stream in STREAMS:
        assert chain.watcher.seqs(stream) == list(range(chain.seq))
