"""The past and then the live, with no hole and no repeat between them."""

from __future__ import annotations

import asyncio

from websockets.asyncio.client import connect

from streamer.cursor import Cursor, EntryId, parse_cursor
from streamer.hub.settings import HubSettings
from streamer.publishing.publish import Publisher
from streamer.storage.store import Store
from tests.hub.serving import (
    Serving,
    published,
    publisher_fixture,
    receive,
    receive_until,
    seq_is,
    serving_fixture,
)
from tests.stores import Valkey, segment, store_fixture, until, valkey_fixture

__all__ = ["publisher_fixture", "serving_fixture", "store_fixture", "valkey_fixture"]


async def test_resuming_while_publishing_goes_on_leaves_no_hole_and_no_repeat(
    serving: Serving, publisher: Publisher
) -> None:
    """Subscribers that come with cursors of all ages, in mid-stream, each get exactly what came after theirs."""
    total = 4000
    async with connect(serving.url()) as peer:
        await receive(peer)
        reading = asyncio.create_task(receive_until(peer, seq_is(1499)))
        await published(publisher, 0, 1500)
        cursors = {m["seq"]: m["cursor"] for m in await reading}

    async def resumed(after: int, pause_s: float) -> list[int]:
        await asyncio.sleep(pause_s)
        async with connect(serving.url(f"since={cursors[after]}")) as late:
            assert (await receive(late))["type"] == "hello"
            return [message["seq"] for message in await receive_until(late, seq_is(total - 1))]

    async def publishing() -> None:
        for seq in range(1500, total):
            publisher.publish("door", [segment(seq=seq)])
            if seq % 20 == 0:
                await asyncio.sleep(0.002)

    afters = [0, 3, 700, 1200, 1499]
    tasks = [asyncio.create_task(resumed(after, number * 0.03)) for number, after in enumerate(afters * 2)]
    await publishing()
    for after, task in zip(afters * 2, tasks, strict=True):
        assert await task == list(range(after + 1, total))


async def test_a_cursor_resumes_after_what_memory_holds_and_before(serving: Serving, publisher: Publisher) -> None:
    """Whether the past is in the hub's memory or only in the store makes no difference."""
    await published(publisher, 0, 6000)
    place = (await Store.range_feed(publisher._store, EntryId(0, 0), count=11)).entries
    cursor = f"{place[10][0]}@{await publisher._store.identity()}"
    await until(lambda: serving.hub._tail.last >= place[10][0] and len(serving.hub._tail._recent) < 3000)
    async with connect(serving.url(f"since={cursor}")) as peer:
        await receive(peer)
        assert [m["seq"] for m in await receive_until(peer, seq_is(5999))] == list(range(11, 6000))


async def test_a_past_that_the_store_cannot_give_now_is_given_when_it_can(
    serving: Serving, publisher: Publisher, valkey: Valkey
) -> None:
    """Who comes for the past while the store is frozen stays connected, and gets all of it afterwards."""
    await published(publisher, 0, 4000)
    first = (await publisher._store.range_feed(EntryId(0, 0), count=1)).entries[0][0]
    cursor = Cursor(first, await publisher._store.identity())
    await until(lambda: serving.hub._tail.after(first) is None)
    await until(lambda: serving.hub._tail._repeats.latest("door") == ("e1", 3999))
    valkey.freeze()
    async with connect(serving.url(f"since={cursor}")) as peer:
        await receive(peer)
        await asyncio.sleep(2.5)  # longer than a store is waited for
        valkey.thaw()
        assert [m["seq"] for m in await receive_until(peer, seq_is(3999))] == list(range(1, 4000))


async def test_a_cursor_of_another_store_is_a_gap_and_then_all_there_is(serving: Serving, publisher: Publisher) -> None:
    """`gap` says that what came after is not there, its count unknown; then the past of this store, then the live."""
    await published(publisher, 0, 20)
    async with connect(serving.url("since=1795406830712-0@5f3a")) as peer:
        await receive(peer)
        gap = await receive(peer)
        assert gap == {"type": "gap", "first": "1795406830712-0@5f3a", "last": None, "count": None}
        assert [m["seq"] for m in await receive_until(peer, seq_is(19))] == list(range(20))


async def test_a_cursor_from_the_future_is_a_gap_and_then_the_live(serving: Serving, publisher: Publisher) -> None:
    """A place that this store never reached (it went back in time) does not make a subscriber wait for ever."""
    await published(publisher, 0, 3)
    store = await publisher._store.identity()
    async with connect(serving.url(f"since=99999999999999-0@{store}")) as peer:
        await receive(peer)
        assert (await receive(peer))["type"] == "gap"
        await published(publisher, 3, 4)
        assert (await receive(peer))["seq"] == 3


async def test_a_trimmed_cursor_is_a_gap_and_then_what_is_left(valkey: Valkey, publisher: Publisher) -> None:
    """What retention took is told with where it ends; nothing that is left is missing, in memory or in the store."""
    await published(publisher, 0, 3000)
    page = await publisher._store.range_feed(EntryId(0, 0), count=600)
    await valkey.run("XTRIM", "streamer:feed", "MAXLEN", 2500)
    async with Serving(HubSettings(redis_url=valkey.url, port=0)) as serving:
        for since in (EntryId(0, 0), page.entries[0][0], page.entries[498][0], page.entries[500][0]):
            async with connect(serving.url(f"since={Cursor(since, page.store)}")) as peer:
                await receive(peer)
                messages = await receive_until(peer, seq_is(2999))
                gaps = [message for message in messages if message["type"] == "gap"]
                left = [message["seq"] for message in messages if message["type"] == "segment"]
                assert left == list(range(501 if since == page.entries[500][0] else 500, 3000))
                if since < page.entries[499][0]:
                    assert [(gap["first"], gap["count"]) for gap in gaps] == [(str(Cursor(since, page.store)), None)]
                    assert parse_cursor(gaps[0]["last"]).id.next() == page.entries[500][0]
                else:
                    assert gaps == []
