"""The streams of a running service: added, changed, removed while the others go on, and everything they held freed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from msgspec.structs import replace

from streamer.clock import rfc3339
from streamer.config import StreamConfig, mask_url
from streamer.errors import AdmissionError, StoreError, StreamerError
from streamer.ledger import Ledger
from streamer.messages import Previous
from streamer.observe.metrics import Metrics
from streamer.people.watch import PeopleWatch
from streamer.pipeline import Ear, LiveStream, Source, Surroundings
from streamer.publishing.publish import Publisher
from streamer.sources.published import PublishedSource
from streamer.status import StreamStatus
from streamer.storage.store import Store

log = logging.getLogger(__name__)

_LAST_TIMEOUT_S = 2.0
_RETRY_S = 10.0


@dataclass(frozen=True, slots=True)
class RegistryParts:
    """What the registry wires each stream to. `open_source` raises UserError for an entry that can't be used;
    `refusal` says why a stream more can't be served, with the figure, None where it can; each of `forget` frees what
    it holds of a stream that has gone; `look` gives who watches a stream's people, when people can be looked for, or
    None: nobody does; `listen` who listens to what is said there."""

    around: Surroundings
    publisher: Publisher
    store: Store
    metrics: Metrics
    forget: Sequence[Callable[[str], None]]
    open_source: Callable[[str, StreamConfig], Source]
    refusal: Callable[[StreamConfig], str | None]
    look: Callable[[str, StreamConfig], Awaitable[PeopleWatch | None]]
    listen: Callable[[str, StreamConfig], Ear | None] = lambda name, entry: None


@dataclass(slots=True)
class _Entry:
    config: StreamConfig
    live: LiveStream


@dataclass(frozen=True, slots=True)
class _LeftOut:
    """A stream of the configuration that there was no room for: why, and since when."""

    config: StreamConfig
    reason: str
    since_ns: int


@dataclass(slots=True)
class _Turn:
    """Whose turn it is to change a stream, and how many hold it or wait for it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Registry:
    """All methods belong to the event loop; changes to one stream happen one after the other."""

    def __init__(self, parts: RegistryParts) -> None:
        self._parts = parts
        self._entries: dict[str, _Entry] = {}
        self._turns: dict[str, _Turn] = {}
        self._left_out: dict[str, _LeftOut] = {}
        self._stopping = False

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    @property
    def names(self) -> list[str]:
        """The streams there are, sorted."""
        return sorted(self._entries)

    def config_of(self, name: str) -> StreamConfig:
        """The entry that `name` runs with."""
        return self._entries[name].config

    @property
    def live(self) -> dict[str, LiveStream]:
        """The streams there are, by name."""
        return {name: entry.live for name, entry in self._entries.items()}

    def published(self, name: str) -> PublishedSource | None:
        """The source of `name` where somebody can publish to it; None where there is no such stream, or it has another
        source."""
        entry = self._entries.get(name)
        source = None if entry is None else entry.live.source
        return source if isinstance(source, PublishedSource) else None

    def ledger(self, name: str) -> Ledger | None:
        """The account of `name`; None where there is no such stream. Any thread."""
        entry = self._entries.get(name)
        return None if entry is None else entry.live.ledger

    async def put(self, name: str, config: StreamConfig) -> Literal["created", "changed"]:
        """Add `name`, or put `config` in the place of the one it runs with (an equal one changes nothing).

        Raises:
            UserError: the entry can't be used; what ran before goes on.
            AdmissionError: one stream more can't be served within the bound.
            StreamerError: the service is stopping.
        """
        async with self._alone(name):
            self._check_running()
            entry = self._entries.get(name)
            if entry is not None and entry.config == config:
                return "changed"
            people = await self._parts.look(name, config)
            self._check_running()
            source = self._parts.open_source(name, config if people is not None else _unwatched(config))
            refusal = self._parts.refusal(config) if entry is None else None
            if refusal is not None:
                raise AdmissionError(f"{refusal}; remove a stream, or set `admission: degrade` to serve all with less")
            self._left_out.pop(name, None)
            if entry is None:
                previous = await self._previous(name)
                self._check_running()  # it may have begun to stop meanwhile, and would not know of this one
            else:
                await self._end(name, "changed")
                previous = entry.live.previous
            ear = self._parts.listen(name, config)
            self._begin(name, config, LiveStream(name, source, self._parts.around, previous, people, ear))
            return "created" if entry is None else "changed"

    @contextlib.asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        """One change of a stream at a time. Its lock goes with the last who wants it, so that names which come and go,
        or never were, leave nothing behind."""
        turn = self._turns.setdefault(name, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[name]

    def _check_running(self) -> None:
        if self._stopping:
            raise StreamerError("the service is stopping; try again when it is back")

    def _begin(self, name: str, config: StreamConfig, live: LiveStream) -> None:
        parts, source = self._parts, live.source
        self._entries[name] = _Entry(config, live)
        parts.around.dispatcher.put(name, config.weight)
        parts.around.publishing.post(parts.publisher.open, name)
        parts.metrics.add_stream(name, source.stats, lambda: live.state, lambda: live.queue, lambda: live.level)
        live.start()

    async def put_or_keep(self, name: str, config: StreamConfig) -> None:
        """`put` for a stream that somebody wrote down: where there is no room for it now, it is shown as failed, and
        tried again."""
        try:
            await self.put(name, config)
        except AdmissionError as error:
            if name not in self._left_out:
                log.error("stream %s is left out for now: %s", name, error)
            self._left_out[name] = _LeftOut(config, str(error), self._parts.around.clock.wall_ns())

    async def retry_forever(self) -> None:
        """Try again what there was no room for, one stream at a time, until cancelled."""
        while True:
            await asyncio.sleep(_RETRY_S)
            for name, left_out in list(self._left_out.items())[:1]:
                try:
                    await self.put_or_keep(name, left_out.config)
                except StreamerError as error:
                    log.error("stream %s is left out: %s", name, error)
                    self._left_out.pop(name, None)

    async def delete(self, name: str, reason: str = "removed") -> bool:
        """Remove `name` and free what it held; False where there is none."""
        async with self._alone(name):
            if self._left_out.pop(name, None) is not None:
                return True
            if name not in self._entries:
                return False
            await self._end(name, reason)
            return True

    async def _end(self, name: str, reason: str) -> None:
        entry = self._entries[name]
        await entry.live.stop(reason)
        del self._entries[name]
        self._parts.around.publishing.post(self._parts.publisher.close, name)
        for forget in self._parts.forget:
            forget(name)
        self._parts.metrics.remove_stream(name)

    async def stop(self) -> None:
        """End all streams at the same time; no new one is taken in from here on."""
        self._stopping = True
        await asyncio.gather(*(self.delete(name, "the service is stopping") for name in self.names))

    async def _previous(self, name: str) -> Previous | None:
        """The epoch that an earlier process, or an earlier stream of this name, wrote last."""
        try:
            async with asyncio.timeout(_LAST_TIMEOUT_S):
                return await self._parts.store.last(name)
        except (StoreError, TimeoutError):
            # A store that is away must not keep a camera from being taken in; the announcement then names no epoch
            # before.
            return None

    def status(self, name: str) -> StreamStatus | None:
        """One stream now, None where there is none."""
        left_out = self._left_out.get(name)
        if left_out is not None:
            return _absent(name, left_out)
        entry = self._entries.get(name)
        return None if entry is None else _status(name, entry)

    def statuses(self) -> list[StreamStatus]:
        """All streams now, by name."""
        found = (self.status(name) for name in sorted({*self._entries, *self._left_out}))
        return [status for status in found if status is not None]


def _status(name: str, entry: _Entry) -> StreamStatus:
    live, stats = entry.live, entry.live.source.stats
    last = live.ledger.last_segment
    return StreamStatus(
        name=name,
        source=mask_url(entry.config.source),
        state=live.state,
        reason=live.reason,
        since=rfc3339(live.since_ns),
        epoch=live.epoch,
        group=entry.config.group,
        fps=round(stats.fps, 2),
        lag_ms=round(stats.lag_ms, 1),
        drops=dict(stats.drops),
        reconnects=stats.reconnects,
        last_seq=None if last is None else last.seq,
        coverage=None if last is None else last.coverage,
        weight=entry.config.weight,
        level=live.level,
        preview=entry.config.preview,
        picture=stats.picture,
        people=entry.config.people,
        speech=bool(entry.config.speech),
        zones={name: zone.area for name, zone in entry.config.zones.items()},
        lines={name: line.along for name, line in entry.config.lines.items()},
        degraded=live.left_out,
    )


def _unwatched(config: StreamConfig) -> StreamConfig:
    """`config` for a source whose pictures nobody looks for people in."""
    return replace(config, people="off", zones={}, lines={})


def _absent(name: str, left_out: _LeftOut) -> StreamStatus:
    return StreamStatus(
        name=name,
        source=mask_url(left_out.config.source),
        state="failed",
        reason=left_out.reason,
        since=rfc3339(left_out.since_ns),
        group=left_out.config.group,
        preview=left_out.config.preview,
        weight=left_out.config.weight,
    )
