"""Words that have not settled: to who listens now, the newest only, without a place in the feed."""

from __future__ import annotations

import asyncio

from websockets.asyncio.client import connect

from streamer.cursor import EntryId
from streamer.hub.captions import Captions as Passing
from streamer.hub.fanout import Fanout
from streamer.hub.filters import Filter
from streamer.hub.item import feed_item
from streamer.hub.subscriber import FanoutStatistics, Subscriber
from streamer.messages import SpeechMessage, encode
from streamer.publishing.captions import Captions
from streamer.publishing.publish import Publisher
from streamer.storage.store import Store
from tests.conftest import eventually
from tests.hub.serving import Serving, publisher_fixture, receive, receive_until, seq_is, serving_fixture
from tests.hub.test_fanout import Sink
from tests.stores import segment, store_fixture, valkey_fixture

__all__ = ["publisher_fixture", "serving_fixture", "store_fixture", "valkey_fixture"]


def said(text: str, *, utterance: int = 1, final: bool = False, stream: str = "door") -> SpeechMessage:
    return SpeechMessage(
        stream=stream,
        utterance=utterance,
        text=text,
        words=text.split(),
        language="en",
        final=final,
        start="2026-11-23T04:07:06.900Z",
        end="2026-11-23T04:07:08.200Z",
    )


async def test_they_reach_who_follows_the_stream_without_a_cursor(
    serving: Serving, publisher: Publisher, store: Store
) -> None:
    """A subscriber of the stream gets words as they settle, and the final ones with a cursor, out of the feed as well
    later; a subscriber of another stream, or of a label, gets none."""
    captions = Captions(store)
    captions.start()
    async with (
        connect(serving.url("stream=door")) as door,
        connect(serving.url("stream=yard")) as yard,
        connect(serving.url("label=Dog")) as dogs,
    ):
        for peer in (door, yard, dogs):
            assert (await receive(peer))["type"] == "hello"
        # The hub's own subscription to the channel may be a moment behind its subscribers.
        found = None
        while found is None:
            captions.tell(said("help"))
            try:
                async with asyncio.timeout(0.5):
                    found = await receive(door)
            except TimeoutError:
                continue
        assert found["type"] == "speech" and found["text"] == "help" and "cursor" not in found
        publisher.publish("door", [said("help me", final=True), segment("door", 0)])
        publisher.publish("yard", [segment("yard", 0)])
        final = (await receive_until(door, seq_is(0)))[-2]
        assert (final["type"], final["text"], final["final"]) == ("speech", "help me", True) and final["cursor"]
        assert [message["type"] for message in await receive_until(yard, seq_is(0))] == ["segment"]
        async with connect(serving.url(f"stream=door&since=0-0@{final['cursor'].partition('@')[2]}")) as later:
            past = await receive_until(later, seq_is(0))
        assert [message["text"] for message in past if message["type"] == "speech"] == ["help me"]
    await captions.stop()


async def test_the_newest_overtakes_and_the_final_ends_it() -> None:
    """Of words that wait the newest are sent; what comes after the final words of an utterance is old; what is no such
    message, or says that it is final, is nobody's."""
    fanout, sink = Fanout(FanoutStatistics()), Sink()
    fanout.join(Subscriber(Filter(), sink, FanoutStatistics()))
    passing = Passing(None, fanout)  # type: ignore[arg-type]
    passing.take(encode(said("a")))
    passing.take(encode(said("a b")))
    passing.take(encode(said("c", stream="yard", utterance=7)))
    passing.settled([feed_item(EntryId(1, 0), "s", encode(said("c d", final=True, stream="yard", utterance=7)))])
    passing.take(encode(said("c", stream="yard", utterance=7)))
    passing.take(b"not json")
    passing.take(encode(said("forged", final=True, utterance=9)))
    running = asyncio.create_task(passing.run())
    await eventually(lambda: b"a b" in sink.data)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert sink.data.count(b'"speech"') == 1 and b"forged" not in sink.data
    assert (passing.skipped, passing.unreadable) == (2, 2)


async def test_a_slow_subscriber_goes_without() -> None:
    """Who takes no bytes now gets none of them later, and no gap for them."""
    fanout, slow, quick = Fanout(FanoutStatistics()), Sink(1), Sink(2)
    subscribers = [Subscriber(Filter(), sink, FanoutStatistics()) for sink in (slow, quick)]
    slow.blocked = True
    for subscriber in subscribers:
        fanout.join(subscriber)
    passing = Passing(None, fanout)  # type: ignore[arg-type]
    passing.take(encode(said("soon gone")))
    running = asyncio.create_task(passing.run())
    await eventually(lambda: b"soon gone" in quick.data)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    slow.blocked = False
    fanout.resume(subscribers[0])
    assert not slow.data and not subscribers[0].waiting


async def test_a_store_that_is_away_costs_words_and_nothing_else(store: Store) -> None:
    """Words that are overtaken, or told while the store does not answer, are counted as lost; others reach the
    channel."""
    lines: list[bytes] = []

    async def listen() -> None:
        async for json in store.speech():
            lines.append(json)

    listening = asyncio.create_task(listen())
    captions, away = Captions(store), Captions(Store.connect("redis://127.0.0.1:1/0"))
    captions.start()
    away.start()
    away.tell(said("to nobody"))
    captions.tell(said("overtaken"))
    captions.tell(said("first"))
    assert captions.lost == 1
    while encode(said("second", stream="yard")) not in lines:
        captions.tell(said("second", stream="yard"))
        await asyncio.sleep(0.05)
    await eventually(lambda: away.lost == 1)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await captions.stop()
    await away.stop()
