"""The store: every message that was published, in order, in Redis or Valkey.

Keys: stream `streamer:feed` (all messages), stream and channel `streamer:segments:{name}` (one stream's segments),
hash `streamer:last:{name}` (owner, epoch, seq, unit, state last written), string `streamer:store` (a short id of this
store's contents, made anew when it was emptied), sorted set `streamer:alerts` (the alerts appended last), channel
`streamer:speech` (words that have not settled, which nobody keeps). What is written goes through `feed.lua`, one run a
unit, so a unit is there whole or not at all, once, and after the unit before it; alerts through `alert.lua`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from streamer.clock import NS_PER_MS
from streamer.cursor import END, START, EntryId, parse_id
from streamer.errors import StoreError
from streamer.messages import Previous
from streamer.storage.embedded import EmbeddedStore
from streamer.storage.history import Bound, segment_times, within
from streamer.storage.link import Link, Script
from streamer.storage.records import (
    Claim,
    ClaimRequest,
    FeedBounds,
    FeedPage,
    Record,
    SegmentPage,
    StoreAway,
    StoreFull,
    UnitRecord,
    Written,
)
from streamer.storage.replies import claim_of, complete_from, entries, field, text, written_again, written_of
from streamer.storage.retention import Outlived

# What goes in and out of the store is imported from here.
__all__ = [
    "Claim",
    "ClaimRequest",
    "EmbeddedStore",
    "FeedBounds",
    "FeedPage",
    "Record",
    "SegmentPage",
    "Store",
    "StoreAway",
    "StoreFull",
    "UnitRecord",
    "Written",
]

FEED = "streamer:feed"
IDENTITY = "streamer:store"
SEGMENTS = "streamer:segments:"
LAST = "streamer:last:"
ALERTS = "streamer:alerts"
SPEECH = "streamer:speech"

_RESPONSE_TIMEOUT_S = 2.0
# Above this part of `max_memory` the oldest entries go, down to the second part.
_TRIM_ABOVE, _TRIM_TO = 0.80, 0.70
# Streams trimmed in one go: more would hold up what is being published meanwhile by milliseconds.
_TRIM_SLICE = 32
_PAGE = 500
# Alerts known again: those of many runs of the script, of which only the last can be sent a second time.
_ALERT_MARKS = 4096
MOST_ALERTS = 256
"""How many alerts one run of the script takes; no writing waits for longer than that takes."""


class Store:
    """One store, for one event loop. Methods raise `StoreAway`, `StoreFull` or plain `StoreError`, never redis'."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._writer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._seed = secrets.token_hex(16)
        self._feed_script = Script("feed.lua")
        self._claim_script = Script("claim.lua")
        self._alert_script = Script("alert.lua")
        self._outlived = Outlived()

    @classmethod
    def connect(cls, url: str, *, response_timeout_s: float = _RESPONSE_TIMEOUT_S) -> Store:
        """The store at `url` (`redis://`, `rediss://`, `unix://`); connections are made as they are needed.

        Raises:
            UserError: `url` is not one of a store.
        """
        return cls(Link.connect(url, response_timeout_s))

    @property
    def shown(self) -> str:
        """The URL without its secrets."""
        return self._link.shown

    @property
    def requests(self) -> int:
        """How many times something was asked of the store, answered or not."""
        return self._link.requests

    async def close(self) -> None:
        """Close every connection; errors while doing so are of no interest to anybody."""
        await self._link.close()

    async def ping(self) -> None:
        """Return when the store answers."""
        await self._link.run([("PING",)])

    async def time_us(self) -> int:
        """The store's clock: microseconds since 1970."""
        ((seconds, microseconds),) = await self._link.run([("TIME",)])
        return int(seconds) * 1_000_000 + int(microseconds)

    async def identity(self) -> str:
        """The id of this store's contents; given to it now if it has none."""
        fresh = hashlib.sha1(f"{self._seed}{time.time_ns()}".encode(), usedforsecurity=False).hexdigest()[:8]
        _, answer = await self._link.run([("SET", IDENTITY, fresh, "NX"), ("GET", IDENTITY)])
        return text(answer)

    async def claim(self, requests: Sequence[ClaimRequest]) -> list[Claim | StoreError]:
        """Become the owner of streams, fencing whoever was; an error of one stands in its place.

        Raises:
            StoreAway: no answer; claiming again is safe.
        """
        commands = [_claim_command(request, self._writer) for request in requests]
        replies = await self._link.scripted(self._claim_script, commands)
        return [reply if isinstance(reply, StoreError) else claim_of(reply) for reply in replies]

    async def last(self, stream: str) -> Previous | None:
        """The epoch of `stream` that was written last and the last seq in it, None where nothing is known."""
        ((epoch, seq),) = await self._link.run([("HMGET", LAST + stream, "epoch", "seq")])
        return Previous(text(epoch), int(seq or -1)) if epoch else None

    async def append(self, units: Sequence[UnitRecord], retention_ns: int) -> list[Written | StoreError]:
        """Write `units` in order in one round trip; an error of one stands in its place, its neighbours go on.

        Raises:
            StoreAway: no answer; any part of the units may have been written, and appending them again is safe.
        """
        retention_ms = retention_ns // NS_PER_MS
        commands = [_append_command(unit, retention_ms, self._seed) for unit in units]
        replies = await self._link.scripted(self._feed_script, commands)
        return [reply if isinstance(reply, StoreError) else written_of(reply) for reply in replies]

    async def append_alerts(self, alerts: Sequence[tuple[str, bytes]], retention_ns: int) -> int:
        """Append alerts (a mark that only this one has, and its JSON) to the feed, in order; at most `MOST_ALERTS`. One
        whose mark was appended shortly before is left out. Returns how many were new.

        Raises:
            StoreAway: no answer; any part may have been written, and appending them again is safe.
        """
        assert len(alerts) <= MOST_ALERTS
        command: list[Any] = [3, FEED, ALERTS, IDENTITY, retention_ns // NS_PER_MS, self._seed, _ALERT_MARKS]
        for mark, json in alerts:
            command += [mark, json]
        (reply,) = await self._link.scripted(self._alert_script, [tuple(command)])
        if isinstance(reply, StoreError):
            raise reply
        return int(reply)

    async def tell_speech(self, messages: Sequence[bytes]) -> None:
        """Pass on words that have not settled to who listens now; they are kept nowhere.

        Raises:
            StoreAway: no answer; some may have been passed on.
        """
        await self._link.run([("PUBLISH", SPEECH, json) for json in messages])

    def speech(self) -> AsyncIterator[bytes]:
        """Words that have not settled, as they are told, for ever.

        Raises:
            StoreAway: while it is iterated over: the store went away.
        """
        return self._link.listen(SPEECH)

    async def read_feed(self, after: EntryId, *, block_ms: int, count: int) -> FeedPage:
        """Up to `count` entries after `after`; waits up to `block_ms` for the first one."""
        read = ("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", FEED, str(after))
        reply, identity = await self._link.run([read, ("GET", IDENTITY)], patience_s=block_ms / 1000)
        found = reply[0][1] if reply else []
        return FeedPage(text(identity), entries(found), again=written_again(found))

    async def range_feed(self, first: EntryId, last: EntryId = END, *, count: int = _PAGE) -> FeedPage:
        """Up to `count` entries from `first` to `last`, both included."""
        read = ("XRANGE", FEED, str(first), str(last), "COUNT", count)
        reply, identity, info = await self._link.run([read, ("GET", IDENTITY), ("XINFO", "STREAM", FEED)], lenient=True)
        for answer in (reply, identity):
            if isinstance(answer, StoreError):
                raise answer
        return FeedPage(text(identity), entries(reply), complete_from(info), written_again(reply))

    async def newest(self, count: int) -> FeedPage:
        """The newest `count` entries, oldest first."""
        reply, identity = await self._link.run([("XREVRANGE", FEED, "+", "-", "COUNT", count), ("GET", IDENTITY)])
        return FeedPage(text(identity), entries(reply)[::-1], again=written_again(reply))

    async def feed_bounds(self) -> FeedBounds:
        """Where the feed begins and ends now."""
        identity = await self.identity()
        replies = await self._link.run(
            [("XRANGE", FEED, "-", "+", "COUNT", 1), ("XINFO", "STREAM", FEED)], lenient=True
        )
        first, info = replies
        if isinstance(first, StoreError):
            raise first
        if isinstance(info, StoreError):  # "no such key": nothing was written yet
            return FeedBounds(identity, None, START)
        last, found = field(info, b"last-generated-id"), entries(first)
        return FeedBounds(identity, found[0][0] if found else None, parse_id(text(last)))

    async def streams(self) -> list[str]:
        """Names of the streams that have not ended, sorted."""
        names = [key.removeprefix(LAST) for key in await self._keys(LAST)]
        if not names:
            return []
        states = await self._link.run([("HGET", LAST + name, "state") for name in names])
        return sorted(name for name, state in zip(names, states, strict=True) if state != b"ended")

    async def segments(self, stream: str, since: str | None, until: str | None, limit: int) -> SegmentPage:
        """Past segments of `stream`, oldest first; at most `limit`.

        `since` is inclusive and `until` exclusive; each a cursor or an RFC 3339 time, which is compared with `start`.

        Raises:
            UserError: `since` or `until` is neither.
        """
        lower, upper = Bound.parse("since", since), Bound.parse("until", until)
        identity = await self.identity()
        # A cursor of another store names nothing here: everything that is there comes after it.
        start = lower.id if lower.id is not None and lower.store == identity else START
        end = upper.id if upper.id is not None and upper.store == identity else END
        found: list[bytes] = []
        while True:
            reply = (await self._link.run([("XRANGE", SEGMENTS + stream, str(start), str(end), "COUNT", _PAGE)]))[0]
            page = entries(reply)
            for entry_id, json in page:
                times = segment_times(json)
                if not within(times, entry_id, lower, upper, end):
                    continue
                if len(found) == limit:
                    return SegmentPage(found, times.cursor)
                found.append(json)
            if len(page) < _PAGE:
                return SegmentPage(found, None)
            start = page[-1][0].next()

    async def stored_streams(self) -> list[str]:
        """Names of the streams of which segments are kept, sorted. Reads every key's name: not for every second."""
        return [key.removeprefix(SEGMENTS) for key in await self._keys(SEGMENTS)]

    async def trim(self, streams: Iterable[str], retention_ns: int, max_memory_bytes: int, pause_s: float = 0.0) -> int:
        """Drop what is older than `retention_ns` from the feed and `streams`, and the oldest where they exceed
        `max_memory_bytes` together. Returns the bytes in use before.

        `pause_s`: between slices of the streams, so that what is published meanwhile gets its turns.
        """
        keys = [FEED, *(SEGMENTS + stream for stream in streams)]
        oldest = EntryId(max(await self.time_us() // 1000 - retention_ns // NS_PER_MS, 0), 0)
        (info,) = await self._link.run([("XINFO", "STREAM", FEED)], lenient=True)
        # "no such key": nothing was written yet.
        newest = START if isinstance(info, StoreError) else parse_id(text(field(info, b"last-generated-id")))
        oldest = max(oldest, self._outlived.at(time.monotonic_ns(), newest, retention_ns))
        used = 0
        for part in _slices(keys):
            await self._link.run([("XTRIM", key, "MINID", "~", str(oldest)) for key in part], lenient=True)
            usage = await self._link.run([("MEMORY", "USAGE", key) for key in part])
            used += sum(int(size or 0) for size in usage)
            await asyncio.sleep(pause_s)
        if used > _TRIM_ABOVE * max_memory_bytes:
            await self._shrink(keys, _TRIM_TO * max_memory_bytes / used)
        return used

    async def shrink(self, streams: Iterable[str], part: float) -> None:
        """Keep the newest `part` (0 to 1) of the entries of the feed and `streams`, about."""
        await self._shrink([FEED, *(SEGMENTS + stream for stream in streams)], part)

    async def _shrink(self, keys: list[str], part: float) -> None:
        for some in _slices(keys):
            lengths = await self._link.run([("XLEN", key) for key in some])
            trims = [
                ("XTRIM", key, "MAXLEN", "~", int(length * part), "LIMIT", 0)
                for key, length in zip(some, lengths, strict=True)
            ]
            await self._link.run(trims)

    async def _keys(self, prefix: str) -> list[str]:
        keys: set[str] = set()
        position = b"0"
        while True:
            ((position, found),) = await self._link.run([("SCAN", position, "MATCH", prefix + "*", "COUNT", 1000)])
            keys.update(text(key) for key in found)
            if int(position) == 0:
                return sorted(keys)


def _claim_command(request: ClaimRequest, writer: str) -> tuple[Any, ...]:
    """What follows the script's name: number of keys, keys, arguments."""
    restored = (request.owner, request.written, request.settled, request.store)
    return (2, LAST + request.stream, IDENTITY, writer, *restored)


def _append_command(unit: UnitRecord, retention_ms: int, seed: str) -> tuple[Any, ...]:
    """What follows the script's name: number of keys, keys, arguments."""
    deadline = "" if unit.deadline_us is None else unit.deadline_us
    command: list[Any] = [4, FEED, SEGMENTS + unit.stream, LAST + unit.stream, IDENTITY]
    mark = "1" if unit.again else "2" if unit.resent else ""
    command += [unit.owner, unit.ordinal, unit.after, retention_ms, seed, deadline, mark]
    for record in unit.records:
        command += [record.kind, record.json, record.epoch, record.mark]
    return tuple(command)


def _slices(keys: list[str]) -> Iterable[list[str]]:
    return (keys[first : first + _TRIM_SLICE] for first in range(0, len(keys), _TRIM_SLICE))
