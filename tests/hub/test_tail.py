"""The end of the feed, followed: what was begun is passed on to the end, and a failure is not silent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from streamer.cursor import Cursor
from streamer.hub.item import FeedItem
from streamer.hub.tail import Tail
from streamer.messages import StreamMessage
from streamer.publishing.publish import Publisher
from streamer.storage.store import Store
from tests.hub.serving import published, publisher_fixture
from tests.stores import Valkey, event, segment, store_fixture, until, valkey_fixture

__all__ = ["publisher_fixture", "store_fixture", "valkey_fixture"]


class Audience:
    """Takes its time over what it is given."""

    def __init__(self) -> None:
        self.begun = 0
        self.seqs: list[int] = []
        self.go = asyncio.Event()

    async def items(self, items: Sequence[FeedItem]) -> None:
        self.begun += 1
        await self.go.wait()
        self.seqs += [item.envelope.seq for item in items]

    async def reset(self, before: Cursor) -> None:
        raise AssertionError("the store was not emptied")


async def test_what_is_being_passed_on_at_the_stop_is_passed_on_to_the_end(store: Store, publisher: Publisher) -> None:
    """Cancelled in the middle of a dispatch, the tail gives the rest of it and of the feed before it ends, in order."""
    audience = Audience()
    tail = Tail(store, audience.items, audience.reset)
    following = asyncio.create_task(tail.follow())
    assert await tail.begun(5)
    await published(publisher, 0, 1)
    await until(lambda: audience.begun == 1)
    await published(publisher, 1, 5)
    following.cancel()
    await asyncio.wait([following])
    assert audience.seqs == []
    audience.go.set()
    await tail.finish()
    assert audience.seqs == [0, 1, 2, 3, 4]


async def test_messages_are_passed_on_one_page_at_a_time(store: Store, publisher: Publisher) -> None:
    """What comes while a page is being passed on waits in the store and comes next, together."""
    audience = Audience()
    tail = Tail(store, audience.items, audience.reset)
    following = asyncio.create_task(tail.follow())
    assert await tail.begun(5)
    await published(publisher, 0, 1)
    await until(lambda: audience.begun == 1)
    await published(publisher, 1, 30)
    assert audience.begun == 1
    audience.go.set()
    await until(lambda: len(audience.seqs) == 30)
    assert audience.seqs == list(range(30)) and audience.begun < 10
    following.cancel()
    await asyncio.wait([following])


async def test_what_a_store_lost_reaches_subscribers_once(valkey: Valkey, store: Store, publisher: Publisher) -> None:
    """The store is emptied under a reader that has read all of it; its writer writes it again: segments, events and
    states are passed on once, and what follows comes after them."""
    got: list[str] = []
    resets = 0

    async def items(items: Sequence[FeedItem]) -> None:
        got.extend(f"{item.envelope.state}{item.envelope.seq}" for item in items)

    async def reset(_: Cursor) -> None:
        nonlocal resets
        resets += 1

    tail = Tail(store, items, reset)
    following = asyncio.create_task(tail.follow())
    assert await tail.begun(5)
    said = [StreamMessage(stream="door", state=state, epoch="e1") for state in ("live", "stalled", "live", "stalled")]
    for seq, message in enumerate(said):
        publisher.publish("door", [segment(seq=seq), event()])
        publisher.publish("door", [message])
    assert await publisher.drain(5) == 0
    await until(lambda: len(got) == 12)
    before = list(got)
    await valkey.run("FLUSHALL")
    publisher.publish("door", [segment(seq=4), event()])
    assert await publisher.drain(5) == 0
    await until(lambda: len(got) >= 14)
    following.cancel()
    await asyncio.wait([following])
    assert resets == 1
    assert got == [*before, "4", "open-1"]


async def test_an_alert_about_a_stream_that_has_ended_does_not_bring_it_back(
    store: Store, publisher: Publisher
) -> None:
    """What fired for it is over when it ends: that is passed on, and the stream stays gone."""
    audience = Audience()
    audience.go.set()
    tail = Tail(store, audience.items, audience.reset)
    following = asyncio.create_task(tail.follow())
    assert await tail.begun(5)
    publisher.publish("door", [StreamMessage(stream="door", state="live", epoch="e1")])
    await until(lambda: tail.streams == {"door"})
    publisher.publish("door", [StreamMessage(stream="door", state="ended", epoch="e1")])
    await publisher.drain(5)
    await store.append_alerts([("a:cleared", b'{"type":"alert","stream":"door","state":"cleared"}')], 3_600_000_000_000)
    await until(lambda: len(audience.seqs) == 3)
    assert tail.streams == set()
    following.cancel()
    await asyncio.wait([following])


async def test_a_failure_in_passing_on_ends_the_following(store: Store, publisher: Publisher) -> None:
    """So that whoever runs it can see, and replace the process."""

    async def broken(_: Sequence[FeedItem]) -> None:
        raise RuntimeError("broken")

    tail = Tail(store, broken, Audience().reset)
    following = asyncio.create_task(tail.follow())
    assert await tail.begun(5)
    await published(publisher, 0, 1)
    with pytest.raises(RuntimeError, match="broken"):
        await asyncio.wait_for(following, 5)
