"""The store's own clock jumps: ids of entries lie far ahead of it, or leap. Nothing that is promised hangs on it.

A store whose clock was ahead and has been set right goes on under the last id it gave; that is what a stream with an id
from the future makes it do here.
"""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from websockets.asyncio.client import connect

from streamer.clock import NS_PER_S
from streamer.cursor import START, parse_cursor
from streamer.publishing.publish import PublishConfig, Publisher
from streamer.storage.store import FEED, SEGMENTS, Store
from tests.hub.serving import Serving, publisher_fixture, receive_until, seq_is, serving_fixture
from tests.stores import Valkey, segment, store_fixture, until, valkey_fixture

__all__ = ["publisher_fixture", "serving_fixture", "store_fixture", "valkey_fixture"]

YEAR_MS = 365 * 24 * 3600 * 1000


async def publish(publisher: Publisher, first: int, last: int) -> None:
    """Segments of the stream `door`, all of them acknowledged."""
    for seq in range(first, last):
        publisher.publish("door", [segment(seq=seq)], time.monotonic_ns() + NS_PER_S)
    assert await publisher.drain(10) == 0


async def was_ahead(valkey: Valkey) -> int:
    """The store's clock was a year ahead until now; returns the milliseconds of the last id that it gave."""
    ahead_ms = time.time_ns() // 1_000_000 + YEAR_MS
    await valkey.run("XADD", FEED, f"{ahead_ms}-5", "other", "not ours")
    return ahead_ms


async def test_publishing_cursors_and_resuming_go_on(valkey: Valkey, publisher: Publisher, serving: Serving) -> None:
    """Everything is written once and in order under ids of that future, none of it is called late, every cursor is a
    place to resume from, across the jump too, and the HTTP side's query goes on from its own."""
    await publish(publisher, 0, 5)
    await until(lambda: serving.hub._tail._repeats.latest("door") == ("e1", 4))
    async with connect(serving.url()) as peer:
        hello = json.loads(await peer.recv())
        ahead_ms = await was_ahead(valkey)
        await publish(publisher, 5, 10)
        live = await receive_until(peer, seq_is(9))
    assert [message["seq"] for message in live] == [5, 6, 7, 8, 9]
    ids = [parse_cursor(message["cursor"]).id for message in live]
    assert ids == sorted(set(ids)) and all(place.ms == ahead_ms for place in ids)
    assert not any(message["delivered_late"] for message in live)
    for since, first in ((hello["cursor"], 5), (live[1]["cursor"], 7)):
        async with connect(serving.url(f"since={since}")) as peer:
            await peer.recv()
            again = await receive_until(peer, seq_is(9))
        assert [message["seq"] for message in again] == list(range(first, 10))
    store = Store.connect(valkey.url)
    page = await store.segments("door", None, None, 7)
    rest = await store.segments("door", page.next, None, 7)
    await store.close()
    assert [json.loads(raw)["seq"] for raw in (*page.segments, *rest.segments)] == list(range(10))
    assert publisher.statistics.written == 10 and publisher.statistics.late == 0


async def test_a_stream_of_segments_that_is_ahead_alone_holds_nothing_up(valkey: Valkey, publisher: Publisher) -> None:
    """Where one stream's key has ids from the future and the feed has not (a key that was restored), its segments are
    written to both all the same."""
    await publish(publisher, 0, 2)
    ahead_ms = time.time_ns() // 1_000_000 + YEAR_MS
    await valkey.run("XADD", SEGMENTS + "door", f"{ahead_ms}-5", "other", "not ours")
    await publish(publisher, 2, 6)
    store = Store.connect(valkey.url)
    feed = [json.loads(raw)["seq"] for _, raw in (await store.range_feed(START)).entries]
    segments = [json.loads(raw)["seq"] for raw in (await store.segments("door", None, None, 100)).segments]
    await store.close()
    assert feed == segments == list(range(6))


@pytest.mark.parametrize("ahead", [False, True])
async def test_what_is_old_is_trimmed_all_the_same(valkey: Valkey, ahead: bool) -> None:
    """With a retention of 2 s the feed and a stream's segments hold no more than what came in the last seconds, whether
    ids follow the store's clock or lie a year ahead of it."""
    store = Store.connect(valkey.url)
    if ahead:
        await was_ahead(valkey)
    async with Publisher(store, PublishConfig(retention_ns=2 * NS_PER_S)) as publisher:
        await publish(publisher, 0, 1000)

        async def trimmed() -> bool:
            left = (await valkey.run("XLEN", FEED), await valkey.run("XLEN", SEGMENTS + "door"))
            return all(isinstance(count, int) and count < 300 for count in left)

        assert not await trimmed()
        seq = 1000
        async with asyncio.timeout(15):
            while not await trimmed():
                await publish(publisher, seq, seq + 2)
                seq += 2
                await asyncio.sleep(0.1)
        held = [json.loads(raw)["seq"] for _, raw in (await store.newest(5)).entries]
    await store.close()
    assert held == list(range(seq - 5, seq))


async def test_a_clock_that_leaps_ahead_makes_nothing_late(valkey: Valkey, publisher: Publisher) -> None:
    """When the clock goes past the ids that were ahead, ids follow it again, and order stays."""
    await publish(publisher, 0, 3)
    near_ms = time.time_ns() // 1_000_000 + 500
    await valkey.run("XADD", FEED, f"{near_ms}-0", "other", "not ours")
    await publish(publisher, 3, 6)
    await until(lambda: time.time_ns() // 1_000_000 > near_ms + 5)
    await publish(publisher, 6, 9)
    store = Store.connect(valkey.url)
    entries = (await store.range_feed(START)).entries
    await store.close()
    assert [json.loads(raw)["seq"] for _, raw in entries] == list(range(9))
    assert entries[5][0].ms == near_ms < entries[6][0].ms
