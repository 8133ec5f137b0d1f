"""A subscriber that keeps all it gets, the streams a test adds to a running service, and what every stream promises."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cameras import ToolkitCamera
from tests.conftest import eventually
from tests.e2e.running import Running, service

Message = dict[str, Any]


@dataclass
class Follower:
    """Subscribed to everything: `messages` in the order they came, each with `at_s`, when it came (monotonic)."""

    running: Running
    messages: list[Message] = field(default_factory=list)

    def segments(self, stream: str, since: int = 0) -> list[Message]:
        """The segments of `stream` among the messages from number `since` on."""
        return [m for m in self.messages[since:] if m["type"] == "segment" and m["stream"] == stream]

    def turns(self, stream: str, since: int = 0) -> list[Message]:
        """The announcements of `stream`, from message number `since` on."""
        return [m for m in self.messages[since:] if m["type"] == "stream" and m["stream"] == stream]

    async def until_segments(self, stream: str, count: int, since: int = 0, timeout: float = 20.0) -> list[Message]:  # noqa: ASYNC109
        """Wait for `count` segments of `stream` past message number `since`."""
        await eventually(lambda: len(self.segments(stream, since)) >= count, timeout, f"{count} segments of {stream}")
        return self.segments(stream, since)

    async def until_turn(self, stream: str, state: str, since: int = 0, timeout: float = 20.0) -> Message:  # noqa: ASYNC109
        """Wait until `stream` is announced as `state` past message number `since`."""
        found = await eventually(
            lambda: [m for m in self.turns(stream, since) if m["state"] == state], timeout, f"{stream} {state}"
        )
        return found[0]

    async def follow(self, subscribed: asyncio.Event) -> None:
        """Collect until cancelled."""
        async for message in self.running.messages():
            self.messages.append({**message, "at_s": time.monotonic()})
            subscribed.set()


@asynccontextmanager
async def following(running: Running) -> AsyncIterator[Follower]:
    """A follower of `running` that is subscribed already."""
    follower, subscribed = Follower(running), asyncio.Event()
    task = asyncio.create_task(follower.follow(subscribed))
    try:
        await asyncio.wait_for(subscribed.wait(), 10)
        yield follower
        assert not task.done(), "the subscription ended by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def added(running: Running, name: str, source: str, **entry: object) -> AsyncIterator[None]:
    """A stream that is there for the length of the block."""
    status, body = await running.call("PUT", f"/v1/streams/{name}", {"source": source, **entry})
    assert status == 201, body
    try:
        yield
    finally:
        await running.call("DELETE", f"/v1/streams/{name}")


@dataclass
class Site:
    """A running service that has one healthy stream, `steady`, and a subscriber to everything."""

    running: Running
    follower: Follower
    clip: Path

    async def stream(self, name: str) -> dict[str, object]:
        """What the service says of a stream."""
        return dict(await self.running.get(f"/v1/streams/{name}"))


@asynccontextmanager
async def running_site(clip: Path) -> AsyncIterator[Site]:
    """A service whose `steady` stream plays `clip` and is under way."""
    with ToolkitCamera(clip) as camera:
        async with service("--source", f"steady={camera.url}") as running, following(running) as follower:
            await follower.until_segments("steady", 4)
            yield Site(running, follower, clip)


@asynccontextmanager
async def unnoticed(site: Site) -> AsyncIterator[None]:
    """Whatever is done in the block, `steady` gets all its segments with labels in time, and so does a subscriber."""
    first = len(site.follower.messages)
    yield
    now = len(site.follower.messages)
    await site.follower.until_segments("steady", 1, since=now)
    segments = site.follower.segments("steady", first)
    assert not site.follower.turns("steady", first)
    assert [s["seq"] for s in segments] == list(range(segments[0]["seq"], segments[0]["seq"] + len(segments)))
    assert [s for s in segments if s["status"] != "ok"] == []
    assert all(s["latency_ms"]["total"] <= s["bound_ms"] for s in segments)
    assert not [m for m in site.follower.messages[first:] if m["type"] == "gap"]


def keeps_the_promise(messages: list[Message], stream: str) -> None:
    """Within every epoch each `seq` from 0 on once and in order, none late, none without its reason; each epoch is
    announced before its first segment and names the last `seq` of the one before."""
    last: dict[str, int] = {}
    current: str | None = None
    for message in messages:
        if message.get("stream") != stream:
            continue
        if message["type"] == "stream":
            assert message["epoch"] is not None or message["state"] not in ("live", "stalled"), message
            if message["epoch"] not in (None, current):
                assert message["epoch"] not in last, f"an epoch came back: {message}"
                before = message["previous"]
                if current is not None:
                    assert before == {"epoch": current, "last_seq": last[current]}, message
                current = message["epoch"]
                last[current] = -1
        elif message["type"] == "segment":
            assert message["epoch"] == current, f"a segment outside of the announced epoch {current}: {message}"
            assert message["seq"] == last[current] + 1, f"after seq {last[current]} came {message}"
            last[current] = message["seq"]
            assert message["latency_ms"]["total"] <= message["bound_ms"], message
            assert not message["delivered_late"], message
            assert (message["status"] == "shed") == (message["reason"] is not None), message
