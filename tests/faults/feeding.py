"""A publisher that is fed all the time while its store is ill, and the books that must balance afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections import Counter
from typing import Self

from streamer.cursor import START, EntryId
from streamer.messages import StreamMessage
from streamer.publishing.backlog import Unit
from streamer.publishing.publish import Acknowledged, PublishConfig, Publisher
from streamer.storage.store import Store
from tests.stores import event, segment, until

STREAMS = ("door", "lobby", "yard")
MS = 1_000_000
# Segments may come this late, and labels must be there again this soon after the store is.
BOUND_NS = 500 * MS
PROMISE_S = 2.0
_EVERY_S = 0.02
# The store stamps in milliseconds, and its clock and ours are read one after the other.
_BLURRED_MS = 5
_RANGE = re.compile(r"seq (\d+) to (\d+)")


class Feeding:
    """`async with Feeding(url) as feeding:` publishes a segment a stream each 20 ms, now and then with an event.

    `end` stops that and waits for what is left; `balance` then holds the store to its account.
    """

    def __init__(self, url: str, *, response_timeout_s: float = 0.3, config: PublishConfig | None = None) -> None:
        self._store = Store.connect(url, response_timeout_s=response_timeout_s)
        self.publisher = Publisher(self._store, config, hooks=self)
        self.deadlines: dict[str, list[int]] = {stream: [] for stream in STREAMS}
        self.acknowledged: dict[tuple[str, int], Acknowledged] = {}
        self.dropped: set[tuple[str, int]] = set()
        self.fenced: list[str] = []
        self._feeder: asyncio.Task[None] | None = None

    def on_written(self, acknowledged: Acknowledged) -> None:
        for key in _segments(acknowledged.unit):
            assert key not in self.acknowledged, f"{key} was acknowledged twice"
            self.acknowledged[key] = acknowledged

    def on_dropped(self, unit: Unit) -> None:
        self.dropped.update(_segments(unit))

    def on_fenced(self, stream: str) -> None:
        self.fenced.append(stream)

    async def __aenter__(self) -> Self:
        self.publisher.start()
        for stream in STREAMS:
            self.publisher.publish(stream, [StreamMessage(stream=stream, state="live", epoch="e1")])
        self._feeder = asyncio.create_task(self._feed())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()
        await self.publisher.aclose()
        await self._store.close()

    async def _feed(self) -> None:
        while True:
            deadline_ns = time.monotonic_ns() + BOUND_NS
            for stream, deadlines in self.deadlines.items():
                seq = len(deadlines)
                deadlines.append(deadline_ns)
                more = [event(stream)] if seq % 10 == 0 else []
                self.publisher.publish(stream, [segment(stream, seq), *more], deadline_ns)
            await asyncio.sleep(_EVERY_S)

    async def _stop(self) -> None:
        if self._feeder is not None:
            self._feeder.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._feeder
            self._feeder = None

    async def calm(self, seconds: float = 0.2) -> None:
        """Some time in which nothing happens to the store."""
        await asyncio.sleep(seconds)

    async def away(self) -> None:
        """Return when the publisher knows that its store is ill."""
        await until(lambda: self.publisher.outage() is not None)

    async def again(self) -> float:
        """Seconds until what is handed over from now on is acknowledged; no more than was promised."""
        began_s = time.monotonic()
        first = {stream: len(deadlines) for stream, deadlines in self.deadlines.items()}
        await until(lambda: all(item in self.acknowledged for item in first.items()))
        took_s = time.monotonic() - began_s
        assert took_s <= PROMISE_S, f"labels again only after {took_s:.2f} s"
        return took_s

    async def end(self) -> None:
        """No more is handed over, and all of it is in the store."""
        await self._stop()
        assert await self.publisher.drain(10) == 0
        assert self.publisher.outage() is None

    async def balance(self, url: str, blurred_ms: int = _BLURRED_MS) -> list[dict[str, object]]:
        """Every segment stands in the store at `url` once, in order and marked rightly, or is named by a message there
        as lost; none was late for anybody's sake but the store's. Returns what is in the feed.

        `blurred_ms`: so close to its deadline a segment may be marked either way, because clocks are read over a way.
        """
        entries = await _everything(url)
        wall_ns = time.time_ns() - time.monotonic_ns()
        for stream, deadlines in self.deadlines.items():
            found = [(place, m) for place, m in entries if m["type"] == "segment" and m["stream"] == stream]
            seqs = [int(str(message["seq"])) for _, message in found]
            assert seqs == sorted(set(seqs)), f"{stream} is out of order, or something stands there twice: {seqs}"
            told = _told(stream, [message for _, message in entries])
            missing = set(range(len(deadlines))) - set(seqs)
            assert missing <= told, f"{stream}: nobody knows of {sorted(missing - told)}"
            assert not told & set(seqs), f"{stream}: told as lost, and there: {sorted(told & set(seqs))}"
            for place, message in found:
                over_ms = place.ms - (deadlines[int(str(message["seq"]))] + wall_ns) // MS
                assert abs(over_ms) <= blurred_ms or message["delivered_late"] is (over_ms > 0), (place, message)
        statistics = self.publisher.statistics
        assert statistics.late == 0
        assert statistics.store_late == sum(acknowledged.late for acknowledged in self.acknowledged.values())
        handed = sum(map(len, self.deadlines.values()))
        assert len(self.acknowledged) + len(self.dropped) == handed
        assert Counter(self.fenced) == Counter()
        assert self.publisher.waiting == 0
        return [message for _, message in entries]


def lost(feed: list[dict[str, object]], stream: str) -> list[str]:
    """What a feed tells of as lost of a stream."""
    told = (str(m["reason"]) for m in feed if m["type"] == "stream" and m["stream"] == stream and m["reason"])
    return [reason for reason in told if reason.startswith(("store_lost", "store_away"))]


def _told(stream: str, feed: list[dict[str, object]]) -> set[int]:
    return {
        seq
        for reason in lost(feed, stream)
        for first, last in _RANGE.findall(reason)
        for seq in range(int(first), int(last) + 1)
    }


def _segments(unit: Unit) -> list[tuple[str, int]]:
    return [(unit.stream, unit.segment.seq)] if unit.segment is not None else []


async def _everything(url: str) -> list[tuple[EntryId, dict[str, object]]]:
    store = Store.connect(url)
    try:
        return [(place, json.loads(raw)) for place, raw in (await store.range_feed(START, count=1_000_000)).entries]
    finally:
        await store.close()
