"""`watch` follows a service through interruptions, without a hole or a repeat, and says in one line what it shows."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Response

from streamer.commands.lines import pretty
from streamer.commands.watch import Subscription, follow, watch
from streamer.errors import UserError
from streamer.hub.process import HubProcess
from streamer.hub.settings import HubSettings
from streamer.messages import StreamMessage
from streamer.publishing.publish import Publisher
from streamer.storage.store import Store
from tests.stores import Valkey, event, segment, store_fixture, until, valkey_fixture

__all__ = ["store_fixture", "valkey_fixture"]


@pytest.mark.parametrize(
    ("subscription", "target"),
    [
        (Subscription(), "ws://127.0.0.1:8081/v1/subscribe"),
        (Subscription("host:9"), "ws://host:9/v1/subscribe"),
        (Subscription("wss://host/"), "wss://host/v1/subscribe"),
        (Subscription("ws://host/x/v1/subscribe?access_token=t"), "ws://host/x/v1/subscribe?access_token=t"),
        (
            Subscription("ws://h", ("front-*",), ("Dog", "a&b"), 0.5, "1-0@a"),
            "ws://h/v1/subscribe?stream=front-%2A&label=Dog&label=a%26b&min_score=0.5&since=1-0%40a",
        ),
    ],
)
def test_a_subscription_has_a_url(subscription: Subscription, target: str) -> None:
    """Host alone will do; filters are encoded into the query."""
    assert subscription.target(subscription.since) == target


@pytest.mark.parametrize("url", ["http://host", "ws://", "ws://host:port", "ws://user:s3cret@:1"])
async def test_a_wrong_url_is_refused(url: str) -> None:
    """The error says what a URL looks like, and keeps secrets."""
    with pytest.raises(UserError, match="ws://HOST:PORT") as caught:
        await watch(Subscription(url))
    assert "s3cret" not in str(caught.value)


async def test_it_goes_on_where_it_was_when_the_hub_is_killed(valkey: Valkey, store: Store) -> None:
    """Killed twice while messages are published: each segment comes once, in order."""
    settings = HubSettings(redis_url=valkey.url, port=0)
    troubles: list[str] = []
    async with HubProcess(settings) as hub, Publisher(store) as publisher:
        seen: list[int] = []

        async def watching() -> None:
            url = f"ws://127.0.0.1:{hub.port}"
            async for raw in follow(Subscription(url), troubles.append):
                message = json.loads(raw)
                seen.extend([message["seq"]] if message["type"] == "segment" else [])

        task = asyncio.create_task(watching())
        seq = 0
        for target in (100, 200, 300):
            while seq < target:
                publisher.publish("door", [segment(seq=seq)])
                seq += 1
                await asyncio.sleep(0.001)
            if target < 300:
                await until(lambda: len(seen) > 10 and hub.report is not None, 20)
                assert hub.pid is not None
                os.kill(hub.pid, signal.SIGKILL)
                await until(lambda: hub.report is None)
        await until(lambda: seen[-1:] == [299], 20)
        task.cancel()
        await asyncio.wait([task])
    assert seen == list(range(seen[0], 300))
    assert troubles


async def test_a_hello_is_no_place_while_catching_up(valkey: Valkey) -> None:
    """If the connection breaks between `hello` and the past, the next one asks for the same past again."""
    asked: list[str | None] = []

    async def handler(peer: ServerConnection) -> None:
        assert peer.request is not None
        asked.append(peer.request.path.partition("since=")[2] or None)
        await peer.send('{"type":"hello","version":1,"streams":[],"cursor":"9-0@a"}')
        if len(asked) > 2:
            await peer.send('{"type":"stream","cursor":"8-0@a","stream":"door","state":"live"}')

    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        subscription = Subscription(f"ws://127.0.0.1:{port}", since="5-0@a")
        lines: list[str] = []
        task = asyncio.create_task(watch(subscription, as_json=True, write=lines.append))
        await until(lambda: len(asked) == 4, 20)
        task.cancel()
        await asyncio.wait([task])
    assert asked == ["5-0%40a", "5-0%40a", "5-0%40a", "8-0%40a"]


async def test_it_tries_again_while_the_service_says_not_yet_and_ends_when_it_says_never() -> None:
    """503 is for now, 4xx is for good: the latter raises with the service's own words."""
    answers = [503, 503, 400]

    def refuse(peer: ServerConnection, _: Any) -> Response:
        status = answers.pop(0)
        response = peer.respond(status, json.dumps({"detail": "label: too many"}))
        return response

    async def handler(_: ServerConnection) -> None:
        raise AssertionError("never reached")

    async with serve(handler, "127.0.0.1", 0, process_request=refuse) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with pytest.raises(UserError, match="label: too many"):
            await asyncio.wait_for(watch(Subscription(f"ws://127.0.0.1:{port}")), 20)
    assert answers == []


async def test_json_lines_are_the_messages_themselves(valkey: Valkey, store: Store) -> None:
    """With `as_json` each line is one message as it came; otherwise each is a line for a person."""
    async with HubProcess(HubSettings(redis_url=valkey.url, port=0)) as hub, Publisher(store) as publisher:
        publisher.publish("door", [StreamMessage(stream="door", state="live", epoch="e1"), segment(), event()])
        assert await publisher.drain(5) == 0
        start = f"0-0@{await store.identity()}"
        subscription = Subscription(f"ws://127.0.0.1:{hub.port}", since=start)
        raw: list[str] = []
        await asyncio.wait_for(watch(subscription, as_json=True, write=raw.append, messages=4), 10)
        assert [json.loads(line)["type"] for line in raw] == ["hello", "stream", "segment", "event"]
        lines: list[str] = []
        await asyncio.wait_for(watch(subscription, write=lines.append, messages=4), 10)
        assert len(lines) == 4
        assert all("\n" not in line for line in lines)


def test_lines_for_people() -> None:
    """Labels with what they rest on, what was shed and why, events, states, gaps."""
    whole = json.loads(json.dumps(_plain(segment(labels=(("Dog", 0.93), ("Rain", 0.1))))))
    line = pretty(whole).plain
    assert "door" in line
    assert "Dog 0.93 (40% seen, 60% heard)" in line
    assert "212 ms" in line
    shed = {**whole, "status": "shed", "reason": "overload", "labels": []}
    assert "no answer (overload)" in pretty(shed).plain
    assert "less work: frames" in pretty({**whole, "status": "degraded", "degraded": ["frames"]}).plain
    assert "open   Dog 0.90" in pretty(_plain(event())).plain
    stalled = {"type": "stream", "stream": "door", "state": "stalled", "reason": "no frame for 2 s"}
    assert "stalled (no frame for 2 s)" in pretty(stalled).plain
    assert pretty({"type": "gap", "first": None, "last": None, "count": 7}).plain == "missed 7 messages"
    assert pretty({"type": "gap", "first": None, "last": None, "count": None}).plain == "missed some messages"
    assert "door" in pretty({"type": "hello", "version": 1, "streams": ["door"], "cursor": "1-0@a"}).plain
    assert "glass" in pretty({"type": "alert", "stream": "door", "text": "glass"}).plain


def _plain(message: Any) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = json.loads(msgspec.json.encode(message))
    return found
