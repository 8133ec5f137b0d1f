"""The hub itself: a websocket server whose subscribers follow the store's feed.

A message is framed once for everybody and written to the sockets directly, where the library would frame it once a
connection. Compression is agreed on only with those who ask for it in the query (`compression=deflate`) beside offering
permessage-deflate as the protocol has it, since browsers offer that always: it costs the subscriber's machine time to
save its network a good half of the bytes. A message is compressed once for all of them, without context takeover.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import socket
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec
from websockets.asyncio.server import Server, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from streamer.cursor import Cursor
from streamer.errors import StoreError
from streamer.hub.captions import Captions
from streamer.hub.connection import Company, HubConnection
from streamer.hub.doorway import Asked, Policy, Refusal
from streamer.hub.fanout import Fanout
from streamer.hub.filters import Wanted
from streamer.hub.item import FeedItem, message_frame
from streamer.hub.past import Past
from streamer.hub.pulse import Pulse
from streamer.hub.settings import HubReport, HubSettings
from streamer.hub.subscriber import FanoutStatistics, Subscriber
from streamer.hub.tail import Tail
from streamer.messages import Gap, Hello
from streamer.storage.store import Store

log = logging.getLogger(__name__)

PROTOCOL_VERSION = 1

_MAX_MESSAGE = 4096
_SWEEP_S = 1.0
_GOODBYE_S = 1.0
_PATIENCE_S = 2.0


class Hub:
    """The server; `serve_until` is its whole life."""

    def __init__(self, settings: HubSettings) -> None:
        self._settings = settings
        self._policy = Policy(frozenset(settings.origins), settings.page_port, tuple(settings.tokens))
        self._store = Store.connect(settings.redis_url)
        self._statistics = FanoutStatistics()
        self._fanout = Fanout(self._statistics)
        self._captions = Captions(self._store, self._fanout)
        self._tail = Tail(self._store, self._dispatch, self._on_reset)
        self._past = Past(self._store, self._tail, self._statistics)
        self._server: Server | None = None
        self._lag_s = 0.0
        self._company = Company(self._fanout)
        self._peers: set[HubConnection] = set()
        self._pulse = Pulse(settings.ping_s)
        self._left = asyncio.Event()  # the last of them
        self.departed = 0
        self.refused = 0
        self.closed_slow = 0

    async def serve_until(self, stop: asyncio.Event, started: asyncio.Event) -> None:
        """Serve until `stop` (`started` tells from when on); then send what the feed still holds and say goodbye.

        What fails among its tasks is raised: a hub without one of them must be replaced and not go on silently.
        """
        lives = (self._tail.follow(), self._sweep(), self._pulse.run(), self._captions.follow(), self._captions.run())
        tasks = [asyncio.create_task(life) for life in lives]
        stopping = asyncio.create_task(stop.wait())
        try:
            self._server = await self._listen()
            started.set()
            done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await _cancelled([stopping, *tasks])
            await self._tail.finish()
            await self._say_goodbye()
            await self._store.close()

    @property
    def clients(self) -> int:
        """Subscribers now."""
        return len(self._peers)

    @property
    def blocked(self) -> int:
        """Subscribers whose sockets take nothing now."""
        return len(self._company.blocked)

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
            blocked=self.blocked,
            stored=self._tail.ready and not self._tail.away,
            sent=self._statistics.sent,
            dropped=self._statistics.dropped,
            gaps=self._statistics.gaps,
            refused=self.refused,
            closed_slow=self.closed_slow,
            closed_flood=self._company.closed_flood,
            closed_gone=self._pulse.closed_gone,
            outages=self._tail.outages,
            overtaken=self._captions.skipped,
            loop_lag_ms=round(lag_s * 1000, 1),
        )

    async def _listen(self) -> Server:
        settings = self._settings
        quiet = logging.getLogger("streamer.hub.peers")
        quiet.setLevel(logging.CRITICAL)  # what strangers send is no event of ours, and they could fill a disk with it
        where: dict[str, Any] = {"host": settings.host, "port": settings.port}
        if settings.listen_fd is not None:
            where = {"sock": socket.socket(fileno=settings.listen_fd)}
        return await serve(
            self._subscribe,  # type: ignore[arg-type]
            create_connection=type("Connection", (HubConnection,), {"company": self._company}),
            process_request=self._admit,  # type: ignore[arg-type]
            compression=None,
            max_size=_MAX_MESSAGE,
            max_queue=4,
            write_limit=0,  # HubConnection says why
            open_timeout=5,
            ping_interval=None,  # Pulse does it
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
        if verdict.compressed:
            connection.offer_compression()
        return None

    async def _subscribe(self, connection: HubConnection) -> None:
        self._peers.add(connection)
        self._pulse.add(connection)
        subscriber = connection.subscriber = Subscriber(
            connection.wanted.filter, connection, self._statistics, compressed=connection.compressed
        )
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
            connection.subscriber = None  # they know each other: freed now, and not when the collector comes round
            self._pulse.discard(connection)
            self._peers.discard(connection)
            self.departed += 1
            if not self._peers:
                self._left.set()

    async def _begin(self, connection: HubConnection, subscriber: Subscriber) -> None:
        tail = self._tail
        hello = Hello(version=PROTOCOL_VERSION, streams=sorted(tail.streams), cursor=str(tail.cursor))
        await connection.deliver(message_frame(hello))
        if connection.wanted.since is not None:
            await self._past.send(connection, subscriber, connection.wanted.since)
        # No await between the end of the past and this: nothing can come in between.
        self._fanout.join(subscriber)

    # --- upkeep --------------------------------------------------------------------------------------------------

    def _dispatch(self, items: Sequence[FeedItem]) -> Coroutine[None, None, None]:
        self._captions.settled(items)
        return self._fanout.dispatch(items)

    def _on_reset(self, before: Cursor) -> Coroutine[None, None, None]:
        return self._fanout.tell(Gap(first=str(before), last=None, count=None))

    async def _sweep(self) -> None:
        """Part with subscribers whose sockets have been full for too long; measure how late this loop runs."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + _SWEEP_S
            await asyncio.sleep(_SWEEP_S)
            self._lag_s = max(self._lag_s, loop.time() - due_s)
            for connection in list(self._company.blocked):
                if due_s - connection.blocked_since_s > self._settings.stalled_s:
                    self.closed_slow += 1
                    self._company.blocked.discard(connection)
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


async def _cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
