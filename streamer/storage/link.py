"""The way to one store: commands go in, replies or our own errors come out. No other room knows the client library."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
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
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from streamer.config import mask_url
from streamer.errors import StoreError, UserError
from streamer.storage.records import StoreAway, StoreFull

_CONNECT_TIMEOUT_S = 1.0


class Script:
    """A Lua script of this package and the digest the store knows it by."""

    def __init__(self, name: str) -> None:
        self.source = files("streamer.storage").joinpath(name).read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


class Link:
    """A connection pool to one store, for one event loop. Raises `StoreAway`, `StoreFull` or plain `StoreError`."""

    def __init__(self, pool: ConnectionPool, shown: str, response_timeout_s: float) -> None:
        self._pool = pool
        self.shown = shown
        self._response_timeout_s = response_timeout_s
        self._demoted = False
        self.requests = 0
        """How many times commands were written to the store."""

    @classmethod
    def connect(cls, url: str, response_timeout_s: float) -> Link:
        """The way to `url` (`redis://`, `rediss://`, `unix://`); connections are made as they are needed.

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

    async def close(self) -> None:
        """Close every connection; errors while doing so are of no interest to anybody."""
        try:
            await self._pool.disconnect()
        except (RedisError, OSError):
            return

    async def run(
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

    async def scripted(self, script: Script, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Replies of a run of `script` each, an error in its place; loads it where the store has forgotten it."""
        ready = [("EVALSHA", script.sha, *command) for command in commands]
        replies = await self._pipeline(ready)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            await self.run([("SCRIPT", "LOAD", script.source)])
            missing = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            for index, reply in zip(missing, await self._pipeline([ready[i] for i in missing]), strict=True):
                replies[index] = reply
        return [self._error(reply) if isinstance(reply, Exception) else reply for reply in replies]

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
        if self._demoted:
            self._demoted = False
            await self._pool.disconnect()
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        self.requests += 1
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

    async def listen(self, channel: str) -> AsyncIterator[bytes]:
        """What is published on `channel` from now on, for ever. On a connection of its own."""
        connection: Any = None
        try:
            async with asyncio.timeout(self._response_timeout_s):
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                await connection.send_command("SUBSCRIBE", channel)
            while True:
                kind, _, data = await connection.read_response()
                if kind == b"message":
                    yield data
        except (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise self._error(error) from None
        finally:
            if connection is not None:
                # Nobody could ask anything else on it.
                await connection.disconnect(nowait=True)
                await self._pool.release(connection)

    def _error(self, error: Exception) -> StoreError:
        """Ours for one of the library's, without the URL's secrets. A text of the server's own never holds any."""
        if isinstance(error.__cause__, RedisError):  # what went wrong while connecting is wrapped
            error = error.__cause__
        if isinstance(error, OutOfMemoryError) or str(error).startswith("OOM"):
            remedy = "raise its maxmemory or lower redis.max_memory"
            return StoreFull(f"the store {self.shown} has no memory left: {remedy}")
        if isinstance(error, AuthenticationError | AuthorizationError):
            return StoreAway(f"the store {self.shown} does not accept our user and password: check redis.url")
        if isinstance(error, ReadOnlyError | MasterDownError):
            # The address may lead to another server by now; these connections would stay with this one for ever.
            self._demoted = True
            return StoreAway(f"the store {self.shown} is a replica, which takes no writing")
        if isinstance(error, ResponseError) and not isinstance(error, BusyLoadingError):
            return StoreError(f"the store {self.shown} refused: {_first_line(error)}")
        return StoreAway(f"the store {self.shown} is away: {type(error).__name__}")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
