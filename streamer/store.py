"""The store: every message that was published, in order, in Redis or Valkey. No other room knows the client library.

Keys: stream `streamer:feed` (all messages), stream and channel `streamer:segments:{name}` (one stream's segments),
hash `streamer:last:{name}` (owner, epoch, seq, unit, state last written), string `streamer:store` (a short id of this
store's contents, made anew when it was emptied). What is written goes through `feed.lua`, one run a unit, so a unit is
there whole or not at all, once, and after the unit before it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import socket
import time
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

from hiredis import pack_command
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)

from streamer.clock import NS_PER_MS
from streamer.config import mask_url
from streamer.cursor import END, START, EntryId, parse_id
from streamer.embedded import EmbeddedStore
from streamer.errors import StoreError, UserError
from streamer.history import Bound, segment_times, within
from streamer.messages import Previous
from streamer.records import (
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

_CONNECT_TIMEOUT_S = 1.0
_RESPONSE_TIMEOUT_S = 2.0
# Above this part of `max_memory` the oldest entries go, down to the second part.
_TRIM_ABOVE, _TRIM_TO = 0.80, 0.70
_PAGE = 500


class Store:
    """A connection pool to one store. Methods raise `StoreAway`, `StoreFull` or plain `StoreError`, never redis'."""

    def __init__(self, pool: ConnectionPool, shown: str, response_timeout_s: float) -> None:
        self._pool = pool
        self._shown = shown
        self._response_timeout_s = response_timeout_s
        self._writer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._seed = secrets.token_hex(16)
        self._feed_script = _Script("feed.lua")
        self._claim_script = _Script("claim.lua")

    @classmethod
    def connect(cls, url: str, *, response_timeout_s: float = _RESPONSE_TIMEOUT_S) -> Store:
        """The store at `url` (`redis://`, `rediss://`, `unix://`); connections are made as they are needed.

        Raises:
            UserError: `url` is not one of a store.
        """
        shown = mask_url(url)
        try:
            pool = ConnectionPool.from_url(
                url,
                protocol=2,
                socket_connect_timeout=_CONNECT_TIMEOUT_S,
                socket_timeout=None,  # each exchange has one deadline as a whole
                # No retries below us: who calls knows what may be repeated, and a hidden retry would hide an outage.
                retry=Retry(NoBackoff(), 0),
                client_name="streamer",
                **({} if url.startswith("unix:") else {"socket_keepalive": True}),
            )
            # Finds parameters in the URL that nobody knows; the pool would make it only when it is first used.
            pool.make_connection()  # type: ignore[no-untyped-call]
        except (ValueError, TypeError) as error:
            # The library's text may quote parts of the URL, so it is not passed on.
            remedy = "write redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix://PATH"
            raise UserError(f"{shown} is not the URL of a store: {remedy}") from error
        return cls(pool, shown, response_timeout_s)

    @property
    def shown(self) -> str:
        """The URL without its secrets."""
        return self._shown

    async def close(self) -> None:
        """Close every connection; errors while doing so are of no interest to anybody."""
        try:
            await self._pool.disconnect()
        except (RedisError, OSError):
            return

    async def ping(self) -> None:
        """Return when the store answers."""
        await self._run([("PING",)])

    async def identity(self) -> str:
        """The id of this store's contents; given to it now if it has none."""
        fresh = hashlib.sha1(f"{self._seed}{time.time_ns()}".encode(), usedforsecurity=False).hexdigest()[:8]
        _, answer = await self._run([("SET", IDENTITY, fresh, "NX"), ("GET", IDENTITY)])
        return _text(answer)

    async def claim(self, requests: Sequence[ClaimRequest]) -> list[Claim | StoreError]:
        """Become the owner of streams, fencing whoever was; an error of one stands in its place.

        Raises:
            StoreAway: no answer; claiming again is safe.
        """
        commands = [(1, LAST + request.stream, self._writer, request.owner, request.written) for request in requests]
        replies = await self._scripted(self._claim_script, commands)
        return [reply if isinstance(reply, StoreError) else _claimed(reply) for reply in replies]

    async def last(self, stream: str) -> Previous | None:
        """The epoch of `stream` that was written last and the last seq in it, None where nothing is known."""
        ((epoch, seq),) = await self._run([("HMGET", LAST + stream, "epoch", "seq")])
        return Previous(_text(epoch), int(seq or -1)) if epoch else None

    async def append(self, units: Sequence[UnitRecord], retention_ns: int) -> list[Written | StoreError]:
        """Write `units` in order in one round trip; an error of one stands in its place, its neighbours go on.

        Raises:
            StoreAway: no answer; any part of the units may have been written, and appending them again is safe.
        """
        retention_ms = retention_ns // NS_PER_MS
        commands = [_append_command(unit, retention_ms, self._seed) for unit in units]
        replies = await self._scripted(self._feed_script, commands)
        return [reply if isinstance(reply, StoreError) else _written(reply) for reply in replies]

    async def read_feed(self, after: EntryId, *, block_ms: int, count: int) -> FeedPage:
        """Up to `count` entries after `after`; waits up to `block_ms` for the first one."""
        read = ("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", FEED, str(after))
        reply, identity = await self._run([read, ("GET", IDENTITY)], patience_s=block_ms / 1000)
        return FeedPage(_text(identity), _entries(reply[0][1]) if reply else [])

    async def range_feed(self, first: EntryId, last: EntryId = END, *, count: int = _PAGE) -> FeedPage:
        """Up to `count` entries from `first` to `last`, both included."""
        read = ("XRANGE", FEED, str(first), str(last), "COUNT", count)
        reply, identity, info = await self._run([read, ("GET", IDENTITY), ("XINFO", "STREAM", FEED)], lenient=True)
        for answer in (reply, identity):
            if isinstance(answer, StoreError):
                raise answer
        return FeedPage(_text(identity), _entries(reply), _complete_from(info))

    async def newest(self, count: int) -> FeedPage:
        """The newest `count` entries, oldest first."""
        reply, identity = await self._run([("XREVRANGE", FEED, "+", "-", "COUNT", count), ("GET", IDENTITY)])
        return FeedPage(_text(identity), _entries(reply)[::-1])

    async def feed_bounds(self) -> FeedBounds:
        """Where the feed begins and ends now."""
        identity = await self.identity()
        replies = await self._run([("XRANGE", FEED, "-", "+", "COUNT", 1), ("XINFO", "STREAM", FEED)], lenient=True)
        first, info = replies
        if isinstance(first, StoreError):
            raise first
        if isinstance(info, StoreError):  # "no such key": nothing was written yet
            return FeedBounds(identity, None, START)
        last = _field(info, b"last-generated-id")
        entries = _entries(first)
        return FeedBounds(identity, entries[0][0] if entries else None, parse_id(_text(last)))

    async def streams(self) -> list[str]:
        """Names of the streams that have not ended, sorted."""
        names = [key.removeprefix(LAST) for key in await self._keys(LAST)]
        if not names:
            return []
        states = await self._run([("HGET", LAST + name, "state") for name in names])
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
            reply = (await self._run([("XRANGE", SEGMENTS + stream, str(start), str(end), "COUNT", _PAGE)]))[0]
            entries = _entries(reply)
            for entry_id, json in entries:
                times = segment_times(json)
                if not within(times, entry_id, lower, upper, end):
                    continue
                if len(found) == limit:
                    return SegmentPage(found, times.cursor)
                found.append(json)
            if len(entries) < _PAGE:
                return SegmentPage(found, None)
            start = entries[-1][0].next()

    async def stored_streams(self) -> list[str]:
        """Names of the streams of which segments are kept, sorted. Reads every key's name: not for every second."""
        return [key.removeprefix(SEGMENTS) for key in await self._keys(SEGMENTS)]

    async def trim(self, streams: Iterable[str], retention_ns: int, max_memory_bytes: int) -> int:
        """Drop what is older than `retention_ns` from the feed and `streams`, and the oldest where they exceed
        `max_memory_bytes` together. Returns the bytes in use before."""
        keys = [FEED, *(SEGMENTS + stream for stream in streams)]
        (now,) = await self._run([("TIME",)])
        now_ms = int(now[0]) * 1000 + int(now[1]) // 1000
        oldest = max(now_ms - retention_ns // NS_PER_MS, 0)
        await self._run([("XTRIM", key, "MINID", "~", oldest) for key in keys], lenient=True)
        usage = await self._run([("MEMORY", "USAGE", key) for key in keys])
        used = sum(int(size or 0) for size in usage)
        if used > _TRIM_ABOVE * max_memory_bytes:
            await self._shrink(keys, _TRIM_TO * max_memory_bytes / used)
        return used

    async def shrink(self, streams: Iterable[str], part: float) -> None:
        """Keep the newest `part` (0 to 1) of the entries of the feed and `streams`, about."""
        await self._shrink([FEED, *(SEGMENTS + stream for stream in streams)], part)

    async def _shrink(self, keys: list[str], part: float) -> None:
        lengths = await self._run([("XLEN", key) for key in keys])
        trims = [
            ("XTRIM", key, "MAXLEN", "~", int(length * part), "LIMIT", 0)
            for key, length in zip(keys, lengths, strict=True)
        ]
        await self._run(trims)

    async def _keys(self, prefix: str) -> list[str]:
        keys: set[str] = set()
        position = b"0"
        while True:
            ((position, found),) = await self._run([("SCAN", position, "MATCH", prefix + "*", "COUNT", 1000)])
            keys.update(_text(key) for key in found)
            if int(position) == 0:
                return sorted(keys)

    async def _scripted(self, script: _Script, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Replies of a run of `script` each, an error in its place; loads it where the store has forgotten it."""
        ready = [("EVALSHA", script.sha, *command) for command in commands]
        replies = await self._pipeline(ready)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            await self._run([("SCRIPT", "LOAD", script.source)])
            missing = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            for index, reply in zip(missing, await self._pipeline([ready[i] for i in missing]), strict=True):
                replies[index] = reply
        return [self._error(reply) if isinstance(reply, Exception) else reply for reply in replies]

    async def _run(
        self, commands: Sequence[tuple[Any, ...]], *, lenient: bool = False, patience_s: float = 0.0
    ) -> list[Any]:
        """Replies of `commands` in one round trip. `lenient`: an error stands in its place instead of being raised."""
        replies = await self._pipeline(commands, patience_s)
        replies = [self._error(reply) if isinstance(reply, Exception) else reply for reply in replies]
        if not lenient:
            for reply in replies:
                if isinstance(reply, StoreError):
                    raise reply
        return replies

    async def _pipeline(self, commands: Sequence[tuple[Any, ...]], patience_s: float = 0.0) -> list[Any]:
        """Replies of `commands`, sent as one write; errors of single commands stand in their place.

        The library's own pipeline packs in Python and arms a timer a reply, which is most of what publishing costs.
        """
        packed = b"".join(map(pack_command, commands))
        task = asyncio.current_task()
        cancelling = task.cancelling() if task is not None else 0
        try:
            async with asyncio.timeout(self._response_timeout_s + patience_s):
                replies = await self._exchange(packed, len(commands))
        except (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise self._error(error) from None
        # In Python 3.11 `asyncio.wait_for`, which the library uses, forgets a cancellation that arrives together with
        # its result: without this a loop of store calls could not be cancelled reliably.
        if task is not None and task.cancelling() > cancelling:
            raise asyncio.CancelledError
        return replies

    async def _exchange(self, packed: bytes, count: int) -> list[Any]:
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.send_packed_command([packed], check_health=False)
            replies: list[Any] = []
            for _ in range(count):
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
            return replies
        except BaseException:
            # Replies may still be under way: whoever used this connection next would take them for its own.
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)

    def _error(self, error: Exception) -> StoreError:
        """Ours for one of the library's, without the URL's secrets. A text of the server's own never holds any."""
        if isinstance(error.__cause__, RedisError):  # what went wrong while connecting is wrapped
            error = error.__cause__
        if isinstance(error, OutOfMemoryError) or str(error).startswith("OOM"):
            remedy = "raise its maxmemory or lower redis.max_memory"
            return StoreFull(f"the store {self._shown} has no memory left: {remedy}")
        if isinstance(error, AuthenticationError | AuthorizationError):
            return StoreAway(f"the store {self._shown} does not accept our user and password: check redis.url")
        if isinstance(error, ResponseError) and not isinstance(error, BusyLoadingError):
            return StoreError(f"the store {self._shown} refused: {_first_line(error)}")
        return StoreAway(f"the store {self._shown} is away: {type(error).__name__}")


class _Script:
    """A Lua script of this package and the digest the store knows it by."""

    def __init__(self, name: str) -> None:
        self.source = files("streamer").joinpath(name).read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


def _claimed(reply: list[Any]) -> Claim:
    status, owner, epoch, seq, time_us = reply
    return Claim(status == b"claimed", _text(owner), _text(epoch) or None, int(seq or -1), int(time_us))


def _append_command(unit: UnitRecord, retention_ms: int, seed: str) -> tuple[Any, ...]:
    """What follows the script's name: number of keys, keys, arguments."""
    deadline = "" if unit.deadline_us is None else unit.deadline_us
    command: list[Any] = [4, FEED, SEGMENTS + unit.stream, LAST + unit.stream, IDENTITY]
    command += [unit.owner, unit.ordinal, unit.after, retention_ms, seed, deadline]
    for record in unit.records:
        command += [record.kind, record.json, record.epoch, record.mark]
    return tuple(command)


def _written(reply: list[Any]) -> Written:
    status, first, last, store, time_us, late = reply
    return Written(_text(status), _text(first), _text(last), _text(store), int(time_us), bool(late))  # type: ignore[arg-type]


def _entries(reply: list[Any] | None) -> list[tuple[EntryId, bytes]]:
    found = []
    for entry in reply or []:
        json = _field(entry[1] or [], b"json") if entry else None
        if json is not None:
            found.append((parse_id(_text(entry[0])), bytes(json)))
    return found


def _complete_from(info: list[Any] | StoreError) -> EntryId:
    if isinstance(info, StoreError):  # "no such key": nothing was written, so nothing was dropped
        return START
    if _field(info, b"entries-added") == _field(info, b"length"):
        return START
    oldest = _entries([_field(info, b"first-entry")])
    return oldest[0][0] if oldest else parse_id(_text(_field(info, b"last-generated-id")))


def _field(pairs: list[Any], name: bytes) -> Any:
    for index in range(0, len(pairs) - 1, 2):
        if pairs[index] == name:
            return pairs[index + 1]
    return None


def _text(value: bytes | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else value.decode()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
