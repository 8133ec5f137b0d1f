"""The websocket side: `/v1/subscribe` for any number of subscribers, fed from the store's feed alone, as a process.

`python -m streamer.hub` reads its settings (`HubSettings`, one line of JSON) from standard input and ends when that is
closed, so it never outlives who started it; they travel there and not on the command line because the store's URL may
hold a password. On standard output it writes one line of JSON a second: `HubReport`.

Frames are written to the transport directly: a message is framed once for everybody, where the library would frame it
once a connection. That is right only without extensions, so compression is never negotiated.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import os
import resource
import signal
import socket
import sys
from typing import Any

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request, Response
from websockets.protocol import OPEN, Event

from streamer.admission import Asked, Policy, Refusal
from streamer.cursor import START, Cursor
from streamer.errors import StoreError, StreamerError
from streamer.fanout import Fanout, FanoutStatistics, FeedItem, Subscriber, message_frame
from streamer.filters import Wanted
from streamer.hub_settings import HubReport, HubSettings
from streamer.messages import Gap, Hello
from streamer.store import Store, StoreAway
from streamer.tail import Tail

log = logging.getLogger(__name__)

PROTOCOL_VERSION = 1

_MAX_MESSAGE = 4096
_WRITE_LIMIT = 64 * 1024
# The kernel's part of a subscriber's memory (it doubles the figure); left alone it grows to megabytes for a slow one.
_SEND_BUFFER = 128 * 1024
# Frames from a subscriber that are forgiven at once, and how many a second after that.
_FRAMES, _FRAMES_PER_S = 100.0, 10.0
_SWEEP_S = 1.0
_GOODBYE_S = 1.0
_DISMISS_S = 1.0
_SETTLE_S = 0.02
_PATIENCE_S = 2.0
_RETRY_S = 0.25
_AHEAD_S = 5.0
_PAGE = 200
# Pages of the past read from the store at once, for all subscribers together.
_PAST_READERS = 8


class HubConnection(ServerConnection):
    """A subscriber's connection: knows whether its socket takes bytes, and ends when its peer talks too much."""

    hub: Hub
    wanted: Wanted
    subscriber: Subscriber | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.blocked_since_s = 0.0
        self.writable = asyncio.Event()
        self.writable.set()
        self._allowance, self._allowance_at_s = _FRAMES, self.loop.time()
        self.hub.tune(transport.get_extra_info("socket"))

    @property
    def blocked(self) -> bool:
        """Whether what is written now would pile up, or go nowhere."""
        return self.paused or self.protocol.state is not OPEN

    def write(self, data: bytes) -> None:
        """Send whole frames without waiting."""
        if self.protocol.state is OPEN:
            self.transport.write(data)

    def part(self, code: CloseCode, reason: str) -> None:
        """Begin to close; the peer has its say, if it has one."""
        if self.protocol.state is OPEN:
            self.protocol.send_close(code, reason)
            self.send_data()

    def dismiss(self, code: CloseCode, reason: str) -> None:
        """Say `code` and part, without waiting for a peer that may never answer."""
        if self.protocol.state is OPEN:
            self.protocol.fail(code, reason)
            self.send_data()
            # What it still sends stays unread: reading on would have the peer see a reset before it sees the reason.
            self.transport.pause_reading()
        self.loop.call_later(_DISMISS_S, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.blocked_since_s = self.loop.time()
        self.writable.clear()
        self.hub.blocked.add(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.hub.blocked.discard(self)
        self.writable.set()
        if self.subscriber is not None:
            self.subscriber.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.hub.blocked.discard(self)
        self.writable.set()
        super().connection_lost(exc)

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and not self._may_speak():
            return
        super().process_event(event)

    def _may_speak(self) -> bool:
        """Subscribers have nothing to say: a few frames are forgiven, a flood ends the connection."""
        now_s = self.loop.time()
        earned = (now_s - self._allowance_at_s) * _FRAMES_PER_S
        self._allowance, self._allowance_at_s = min(self._allowance + earned, _FRAMES) - 1.0, now_s
        if self._allowance < 0.0 and self.protocol.state is OPEN:
            self.hub.closed_flood += 1
            self.dismiss(CloseCode.POLICY_VIOLATION, "subscribers have nothing to say")
        return self._allowance >= 0.0


class Hub:
    """The server; `serve_until` is its whole life."""

    def __init__(self, settings: HubSettings) -> None:
        self._settings = settings
        self._policy = Policy(frozenset(settings.origins), settings.page_port, tuple(settings.tokens))
        self._store = Store.connect(settings.redis_url)
        self._fanout = Fanout()
        self._statistics = FanoutStatistics()
        self._tail = Tail(self._store, self._fanout.dispatch, self._on_reset)
        self._past = asyncio.Semaphore(_PAST_READERS)
        self._server: Server | None = None
        self._lag_s = 0.0
        self.blocked: set[HubConnection] = set()
        self._peers: set[HubConnection] = set()
        self._left = asyncio.Event()  # the last of them
        self.refused = 0
        self.closed_slow = 0
        self.closed_flood = 0

    async def serve_until(self, stop: asyncio.Event, started: asyncio.Event) -> None:
        """Serve until `stop` (`started` tells from when on); then send what the feed still holds and say goodbye."""
        tasks = [asyncio.create_task(self._tail.follow()), asyncio.create_task(self._sweep())]
        try:
            self._server = await self._listen()
            started.set()
            await stop.wait()
        finally:
            await _cancelled(tasks)
            await self._tail.finish()
            await self._say_goodbye()
            await self._store.close()

    @property
    def clients(self) -> int:
        """Subscribers now."""
        return len(self._peers)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None, "the hub is not serving"
        port: int = next(iter(self._server.sockets)).getsockname()[1]
        return port

    def report(self) -> HubReport:
        """The figures of this moment; `loop_lag_ms` is the worst since the last report."""
        lag_s, self._lag_s = self._lag_s, 0.0
        return HubReport(
            clients=self.clients,
            blocked=len(self.blocked),
            stored=self._tail.ready and not self._tail.away,
            sent=self._statistics.sent,
            dropped=self._statistics.dropped,
            gaps=self._statistics.gaps,
            refused=self.refused,
            closed_slow=self.closed_slow,
            closed_flood=self.closed_flood,
            outages=self._tail.outages,
            loop_lag_ms=round(lag_s * 1000, 1),
        )

    def tune(self, sock: socket.socket | None) -> None:
        """Bound what the kernel keeps for a connection that was accepted."""
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    async def _listen(self) -> Server:
        settings = self._settings
        quiet = logging.getLogger("streamer.hub.peers")
        quiet.setLevel(logging.CRITICAL)  # what strangers send is no event of ours, and they could fill a disk with it
        where: dict[str, Any] = {"host": settings.host, "port": settings.port}
        if settings.listen_fd is not None:
            where = {"sock": socket.socket(fileno=settings.listen_fd)}
        return await serve(
            self._subscribe,  # type: ignore[arg-type]
            create_connection=type("Connection", (HubConnection,), {"hub": self}),
            process_request=self._admit,  # type: ignore[arg-type]
            compression=None,
            max_size=_MAX_MESSAGE,
            max_queue=4,
            write_limit=_WRITE_LIMIT,
            open_timeout=5,
            ping_interval=settings.ping_s,
            ping_timeout=settings.ping_s,
            close_timeout=2,
            server_header=None,
            logger=quiet,
            backlog=1024,
            **where,
        )

    # --- a subscriber's life -------------------------------------------------------------------------------------

    async def _admit(self, connection: HubConnection, request: Request) -> Response | None:
        field = request.headers.get
        asked = Asked(request.path, field("Host"), field("Upgrade"), field("Origin"), field("Authorization"))
        verdict = self._policy.judge(asked)
        if isinstance(verdict, Wanted):
            connection.wanted = verdict
            if self.clients >= self._settings.max_clients:
                verdict = Refusal(503, "there are too many subscribers: try again later", {"Retry-After": "5"})
            elif not await self._tail.begun(_PATIENCE_S):
                verdict = Refusal(503, "the store has not answered yet: try again soon", {"Retry-After": "1"})
        if isinstance(verdict, Refusal):
            self.refused += 1
            return _problem(verdict)
        return None

    async def _subscribe(self, connection: HubConnection) -> None:
        self._peers.add(connection)
        subscriber = connection.subscriber = Subscriber(connection.wanted.filter, connection, self._statistics)
        try:
            await self._begin(connection, subscriber)
            async for _ in connection:
                pass  # nothing it could say changes anything
        except ConnectionClosed:
            pass
        except (StoreError, TimeoutError) as error:
            log.warning("a subscriber's past could not be read: %s", error)
            await connection.close(CloseCode.TRY_AGAIN_LATER, "the store is away")
        finally:
            self._fanout.leave(subscriber)
            self._peers.discard(connection)
            if not self._peers:
                self._left.set()

    async def _begin(self, connection: HubConnection, subscriber: Subscriber) -> None:
        tail = self._tail
        hello = Hello(version=PROTOCOL_VERSION, streams=sorted(tail.streams), cursor=str(tail.cursor))
        connection.write(message_frame(hello))
        if connection.wanted.since is not None:
            await self._catch_up(connection, subscriber, connection.wanted.since)
        # No await between the end of the past and this: nothing can come in between.
        self._fanout.join(subscriber)

    async def _catch_up(self, connection: HubConnection, subscriber: Subscriber, since: Cursor) -> None:
        """Send everything after `since`, at the subscriber's own pace, until it stands where the feed stands."""
        place = since
        while connection.state is OPEN:
            try:
                following = await self._send_more(connection, subscriber, place)
            except StoreAway:
                await asyncio.sleep(_RETRY_S)
                continue
            if following is None:
                return
            place = following

    async def _send_more(self, connection: HubConnection, subscriber: Subscriber, place: Cursor) -> Cursor | None:
        """Send some of what comes after `place`; returns the place after that, None where nothing more is there."""
        tail = self._tail
        if place.store != tail.identity:  # of another store, or emptied while we read
            return await self._skip(connection, subscriber, place, Cursor(START, tail.identity))
        if place.id > tail.last:
            place = await self._ahead(connection, subscriber, place)
        items = tail.after(place.id)
        if items is None:
            return await self._send_stored(connection, subscriber, place)
        if items:
            await self._send_past(connection, subscriber, items[:_PAGE])
            return Cursor(items[:_PAGE][-1].id, place.store)
        return None if place.store == tail.identity else place

    async def _send_stored(self, connection: HubConnection, subscriber: Subscriber, place: Cursor) -> Cursor:
        """Send a page of what only the store still has; returns the place after it."""
        last = self._tail.last
        async with self._past:
            page = await self._store.range_feed(place.id.next(), last, count=_PAGE)
        if page.store != place.store:
            await asyncio.sleep(_SETTLE_S)  # the tail notices too, and then this is another store
            return place
        if place.id < page.complete_from:
            await self._skip(connection, subscriber, place, Cursor(page.complete_from, place.store))
        if not page.entries:
            return Cursor(last, place.store)
        await self._send_past(connection, subscriber, self._tail.items(page))
        return Cursor(page.entries[-1][0], place.store)

    async def _send_past(self, connection: HubConnection, subscriber: Subscriber, items: list[FeedItem]) -> None:
        await connection.writable.wait()
        await asyncio.sleep(0)  # many may be catching up, and those who are live come first
        selected = [item for item in items if subscriber.filter.selects(item.envelope)]
        if selected:
            connection.write(b"".join(item.frame for item in selected))
            self._statistics.sent += len(selected)

    async def _skip(self, connection: HubConnection, subscriber: Subscriber, place: Cursor, to: Cursor) -> Cursor:
        """Tell the subscriber that what came after `place` is not there any more; returns where it goes on."""
        await connection.writable.wait()
        known = place.store == to.store and place.id < to.id
        last = str(Cursor(to.id.previous(), to.store)) if known else None
        subscriber.tell(Gap(first=str(place), last=last, count=None))
        return to

    async def _ahead(self, connection: HubConnection, subscriber: Subscriber, place: Cursor) -> Cursor:
        """A cursor that the feed has not reached here: wait for it if the store has it; else it is of a lost past."""
        async with self._past:
            bounds = await self._store.feed_bounds()
        if place.store != bounds.store or place.id > bounds.last:
            return await self._skip(connection, subscriber, place, self._tail.cursor)
        async with asyncio.timeout(_AHEAD_S):
            while self._tail.last < place.id and self._tail.identity == place.store:
                await self._tail.moved()
        return place

    # --- upkeep --------------------------------------------------------------------------------------------------

    def _on_reset(self, before: Cursor) -> None:
        self._fanout.tell(Gap(first=str(before), last=None, count=None))

    async def _sweep(self) -> None:
        """Part with subscribers whose sockets have been full for too long; measure how late this loop runs."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + _SWEEP_S
            await asyncio.sleep(_SWEEP_S)
            self._lag_s = max(self._lag_s, loop.time() - due_s)
            for connection in list(self.blocked):
                if due_s - connection.blocked_since_s > self._settings.stalled_s:
                    self.closed_slow += 1
                    self.blocked.discard(connection)
                    connection.dismiss(CloseCode.TRY_AGAIN_LATER, "too slow")

    async def _say_goodbye(self) -> None:
        if self._server is None:
            return
        self._server.close(close_connections=False)
        for connection in list(self._peers):
            connection.part(CloseCode.GOING_AWAY, "the service is stopping")
        self._left.clear()
        if self._peers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._left.wait(), _GOODBYE_S)
        for connection in list(self._peers):  # those who do not answer
            connection.transport.abort()


def _problem(refusal: Refusal) -> Response:
    """A refusal as RFC 9457 has it."""
    title = http.HTTPStatus(refusal.status).phrase
    problem = {"type": "about:blank", "title": title, "status": refusal.status, "detail": refusal.detail}
    body = msgspec.json.encode(problem)
    fields = {"Content-Type": "application/problem+json", "Content-Length": str(len(body)), "Connection": "close"}
    return Response(refusal.status, title, Headers({**fields, **refusal.headers}), body)


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _main() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    hub = Hub(msgspec.json.decode(await reader.readline(), type=HubSettings))
    stop, started = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    helpers = [asyncio.create_task(_stop_at_end(reader, stop)), asyncio.create_task(_report(hub, started))]
    try:
        await hub.serve_until(stop, started)
    finally:
        await _cancelled(helpers)
    logging.shutdown()
    # Everybody has been told. Unwinding the handlers of ten thousand connections one by one would take seconds more.
    os._exit(0)


async def _stop_at_end(reader: asyncio.StreamReader, stop: asyncio.Event) -> None:
    await reader.read()
    stop.set()


async def _report(hub: Hub, started: asyncio.Event) -> None:
    await started.wait()
    while True:
        # A blocking write; but a pipe takes 64 KB, and whoever started us reads it.
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.buffer.write(msgspec.json.encode(hub.report()) + b"\n")
            sys.stdout.buffer.flush()
        await asyncio.sleep(1.0)


def main() -> int:
    """Run a hub as a process: settings from standard input, reports to standard output, log to standard error."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s hub: %(message)s")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        asyncio.run(_main())
    except (StreamerError, msgspec.MsgspecError, OSError) as error:
        print(f"hub: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
