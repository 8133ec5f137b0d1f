"""The hub over real sockets and a real store: what is published comes to those who want it, whatever the store does."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from streamer.hub.settings import HubSettings
from streamer.messages import StreamMessage
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
    status_of,
)
from tests.stores import Valkey, event, segment, store_fixture, until, valkey_fixture

__all__ = ["publisher_fixture", "serving_fixture", "store_fixture", "valkey_fixture"]


def is_place(cursor: str) -> bool:
    return len(cursor.partition("@")[2]) == 8


async def test_hello_comes_first_and_then_what_is_published(serving: Serving, publisher: Publisher) -> None:
    """`hello` names version, streams and the place; each message after it has type, stream and a cursor."""
    async with connect(serving.url()) as peer:
        hello = await receive(peer)
        assert (hello["type"], hello["version"], hello["streams"]) == ("hello", 1, [])
        assert is_place(hello["cursor"])
        announcement = StreamMessage(stream="door", state="live", epoch="e1")
        publisher.publish("door", [announcement, segment(), event()])
        messages = [await receive(peer) for _ in range(3)]
        assert [message["type"] for message in messages] == ["stream", "segment", "event"]
        assert [list(message)[:2] for message in messages] == [["type", "cursor"]] * 3
    async with connect(serving.url()) as peer:
        hello = await receive(peer)
        assert hello["streams"] == ["door"]
        assert hello["cursor"] == messages[-1]["cursor"]


async def test_a_filter_selects_messages_and_never_edits_them(serving: Serving, publisher: Publisher) -> None:
    """Who asks for a label of some streams gets whole segments with it, and all state messages of these streams."""
    async with connect(serving.url("stream=front-*&label=Dog&min_score=0.5")) as peer, connect(serving.url()) as all_:
        await receive(peer)
        await receive(all_)
        dog, cat = (("Dog", 0.9), ("Rain", 0.1)), (("Cat", 0.9), ("Dog", 0.3))
        publisher.publish("back", [segment("back", 0, labels=dog), StreamMessage(stream="back", state="live")])
        assert await publisher.drain(5) == 0
        publisher.publish("front-1", [segment("front-1", 0, labels=cat)])
        publisher.publish("front-1", [segment("front-1", 1, labels=dog)])
        publisher.publish("front-1", [event("front-1", "Cat"), event("front-1", "Dog")])
        publisher.publish("front-1", [StreamMessage(stream="front-1", state="stalled")])
        selected = await receive_until(peer, lambda message: message["type"] == "stream")
        whole = await receive_until(all_, lambda message: message.get("state") == "stalled")
        assert [message["type"] for message in selected] == ["segment", "event", "stream"]
        assert all(message in whole for message in selected)
        assert len(whole) == 7


async def test_the_store_may_go_away_and_come_back(serving: Serving, valkey: Valkey, publisher: Publisher) -> None:
    """Subscribers stay through a kill and an empty restart; they are told of the break and get what comes after."""
    async with connect(serving.url()) as peer:
        await receive(peer)
        await published(publisher, 0, 10)
        before = await receive_until(peer, seq_is(9))
        await valkey.kill()
        publisher.publish("door", [segment(seq=10)])
        await until(lambda: publisher.outage() is not None)
        await valkey.start()
        assert await publisher.drain(10) == 0
        gap, after = await receive(peer), await receive(peer)
        assert gap == {"type": "gap", "first": before[-1]["cursor"], "last": None, "count": None}
        assert after["seq"] == 10
        assert after["cursor"].partition("@")[2] != before[-1]["cursor"].partition("@")[2]
        assert serving.hub.report().outages >= 1


async def test_a_segment_that_had_to_be_written_again_is_not_sent_again(
    serving: Serving, valkey: Valkey, store: Store
) -> None:
    """If the store loses its contents between writing and answering, the segment is in the new contents too: those who
    got it do not get it again, and those who come later do."""
    async with connect(serving.url()) as peer:
        await receive(peer)
        async with Publisher(store) as publisher:
            await published(publisher, 0, 3)
            before = await receive_until(peer, seq_is(2))
        await valkey.run("FLUSHALL")
        async with Publisher(store) as publisher:
            await published(publisher, 2, 5)
        assert (await receive(peer))["type"] == "gap"
        assert [message["seq"] for message in await receive_until(peer, seq_is(4))] == [3, 4]
    async with connect(serving.url(f"since={before[1]['cursor']}")) as peer:
        await receive(peer)
        assert (await receive(peer))["type"] == "gap"
        assert [message["seq"] for message in await receive_until(peer, seq_is(4))] == [2, 3, 4]


async def test_a_frozen_store_holds_messages_back_and_loses_none(
    serving: Serving, valkey: Valkey, publisher: Publisher
) -> None:
    """After SIGSTOP and SIGCONT the subscriber goes on where it was, without a gap."""
    async with connect(serving.url()) as peer:
        await receive(peer)
        await published(publisher, 0, 5)
        valkey.freeze()
        for seq in range(5, 10):
            publisher.publish("door", [segment(seq=seq)])
        await asyncio.sleep(0.2)
        valkey.thaw()
        assert [m["seq"] for m in await receive_until(peer, seq_is(9))] == list(range(10))


async def test_what_others_write_into_the_feed_harms_nobody(
    serving: Serving, valkey: Valkey, publisher: Publisher
) -> None:
    """Entries that are no messages are left out and counted."""
    async with connect(serving.url()) as peer:
        await receive(peer)
        await valkey.run("XADD", "streamer:feed", "*", "json", "garbage")
        await valkey.run("XADD", "streamer:feed", "*", "other", "field")
        await published(publisher, 0, 1)
        assert (await receive(peer))["seq"] == 0
    assert serving.hub._tail.unreadable == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/v1/subscribe?since=nowhere", 400),
        ("/v1/subscribe?min_score=1.5", 400),
        ("/v1/subscribe?x=1", 400),
    ],
)
async def test_a_wrong_request_gets_its_problem(serving: Serving, path: str, status: int) -> None:
    """Refusals are HTTP errors with a problem document that says what is wrong."""
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"ws://127.0.0.1:{serving.hub.port}{path}")
    response = caught.value.response
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = json.loads(response.body or b"")
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]


async def test_origin_and_token_are_asked_for(valkey: Valkey) -> None:
    """A foreign page gets 403, a missing token 401, too many subscribers 503."""
    settings = HubSettings(redis_url=valkey.url, port=0, page_port=8080, tokens=["right"], max_clients=1)
    async with Serving(settings) as serving:
        right = {"Authorization": "Bearer right"}
        assert await status_of(serving.url(), {**right, "Origin": "http://evil.example"}) == 403
        assert await status_of(serving.url(), {}) == 401
        async with connect(serving.url(), additional_headers={**right, "Origin": "http://127.0.0.1:8080"}) as peer:
            await receive(peer)
            assert await status_of(serving.url(), right) == 503
        await until(lambda: serving.hub.clients == 0)
        async with connect(serving.url("access_token=right")) as peer:
            await receive(peer)


async def test_stopping_says_goodbye_after_the_last_message(valkey: Valkey, publisher: Publisher) -> None:
    """What is in the feed at the stop is still sent; then the connection is closed with 1001."""
    async with Serving(HubSettings(redis_url=valkey.url, port=0)) as serving, connect(serving.url()) as peer:
        await receive(peer)
        await published(publisher, 0, 300)
        stopping = asyncio.create_task(serving.stop())
        assert [m["seq"] for m in await receive_until(peer, seq_is(299))] == list(range(300))
        await stopping
        with pytest.raises(ConnectionClosed):
            await receive(peer)
        assert peer.close_code == 1001
