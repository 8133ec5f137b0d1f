"""Publishing: units of all streams into the store, in order a stream, once each, whatever the store does meanwhile.

One round trip is under way at a time and takes everything that has gathered, so batches grow with the load by
themselves and order needs no bookkeeping beyond a queue a stream. While the store is away each stream keeps its last
60 s; afterwards they are written in order, the ones that missed their deadline marked `delivered_late`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from streamer.backlog import Backlog, Unit, Waiting
from streamer.clock import NS_PER_MS, NS_PER_S, Clock, HostClock
from streamer.errors import StoreError
from streamer.messages import FeedMessage
from streamer.publish_times import PublishTimes, StoreClock
from streamer.store import Claim, ClaimRequest, Store, StoreAway, StoreFull, UnitRecord, Written

log = logging.getLogger(__name__)

# Units a round trip: encoding and packing this many holds the event loop for 2 to 3 ms.
_BATCH = 128
# Units of one stream in a row, so that a long backlog of one does not hold up the others.
_TURN = 8
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.25
# A round trip longer than this counts as an outage even before it times out.
_SLOW_NS = 500 * NS_PER_MS
_TRIM_EVERY_S = 2.0
_STREAMS_EVERY = 150
# What stays of all streams when the store itself says that it is full.
_SHRINK_TO = 0.8
_UNEXPLAINED_TURNS = 3


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A unit that is in the store. Times on the host's monotonic clock.

    `delivered_late` is what its JSON says, decided by the store's clock at writing. `duplicate`: an earlier answer was
    lost, and it had been written then.
    """

    unit: Unit
    handed_ns: int
    sent_ns: int
    acked_ns: int
    delivered_late: bool
    duplicate: bool

    @property
    def late(self) -> bool:
        """Its deadline had passed when the store acknowledged it."""
        deadline_ns = self.unit.deadline_ns
        return self.delivered_late or (deadline_ns is not None and self.acked_ns > deadline_ns)

    @property
    def store_late(self) -> bool:
        """Late, though it was handed over in time: the store's doing."""
        deadline_ns = self.unit.deadline_ns
        return self.late and deadline_ns is not None and self.handed_ns <= deadline_ns


class PublishHooks(Protocol):
    """What the publisher tells of its doings; called on the event loop, must return at once and not raise."""

    def on_written(self, acknowledged: Acknowledged) -> None:
        """A unit is in the store."""

    def on_dropped(self, unit: Unit) -> None:
        """A unit made room in a full backlog, or its stream belongs to another writer: it will never be stored."""

    def on_fenced(self, stream: str) -> None:
        """Another writer has taken over `stream`; nothing of it is published from here until `open` is called again."""


class _Silent:
    def on_written(self, acknowledged: Acknowledged) -> None:
        """Nobody listens."""

    def on_dropped(self, unit: Unit) -> None:
        """Nobody listens."""

    def on_fenced(self, stream: str) -> None:
        """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Outage:
    """The store does not take what is published: since when (monotonic), why, and how much waits."""

    since_ns: int
    reason: str
    waiting: int


@dataclass(frozen=True, slots=True)
class PublishConfig:
    """How long and how much the store keeps, and how much is kept here for a stream while the store is away."""

    retention_ns: int = 3600 * NS_PER_S
    max_memory_bytes: int = 512 * 1024 * 1024
    span_ns: int = 60 * NS_PER_S
    capacity: int = 2048


@dataclass(slots=True)
class PublisherStatistics:
    """Counts since the start. `duplicates`: units found written already when they were sent again."""

    written: int = 0
    duplicates: int = 0
    store_late: int = 0
    late: int = 0
    dropped: int = 0
    fenced: int = 0
    outages: int = 0
    used_bytes: int = 0


class Publisher:
    """`async with Publisher(store) as publisher: publisher.publish(...)`. All methods belong to its event loop."""

    def __init__(
        self,
        store: Store,
        config: PublishConfig = PublishConfig(),
        *,
        hooks: PublishHooks | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._config = config
        self._hooks: PublishHooks = hooks or _Silent()
        self._clock: Clock = clock or HostClock()
        self._backlogs: dict[str, Backlog] = {}
        self._fenced: set[str] = set()
        self._closing: set[str] = set()
        # Streams with something to send, each once, in the order in which they take their turns.
        self._turns: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: list[asyncio.Task[None]] = []
        self._store_clock = StoreClock()
        self._times = PublishTimes()
        self._in_flight_since_ns: int | None = None
        self._outage: tuple[int, str] | None = None
        self._healthy_since_ns = 0
        self.statistics = PublisherStatistics()

    async def __aenter__(self) -> Publisher:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def start(self) -> None:
        """Begin to send."""
        self._tasks = [
            asyncio.create_task(self._send_forever(), name="publisher"),
            asyncio.create_task(self._trim_forever(), name="publisher-trim"),
        ]

    async def aclose(self) -> None:
        """Stop at once (`drain` first): what is not acknowledged, though it may be written, is told as dropped."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        if self.waiting:
            log.warning("stopped with %d units that the store has not acknowledged", self.waiting)
        for backlog in self._backlogs.values():
            self._drop([waiting.unit for waiting in backlog.units])
        self._backlogs.clear()

    def open(self, stream: str) -> None:
        """Take `stream` over: whoever published it before is fenced before the first unit from here is written."""
        self._fenced.discard(stream)
        self._closing.discard(stream)
        if stream not in self._backlogs:
            self._backlogs[stream] = Backlog(stream, self._config.span_ns, self._config.capacity)
        self._turn(stream)

    def close(self, stream: str) -> None:
        """No more of `stream` will come: forget it when all it handed over is settled."""
        self._fenced.discard(stream)
        self._closing.add(stream)
        self._forget_if_done(stream)

    def publish(self, stream: str, messages: Sequence[FeedMessage], deadline_ns: int | None = None) -> None:
        """Hand over messages that belong together (at most one segment, whose deadline is `deadline_ns`); never waits.

        They are written together, in this order, after what was handed over before. A stream that was not opened is
        now; one that another writer has taken over loses them, and the hooks are told.
        """
        unit = Unit(stream, tuple(messages), deadline_ns)
        if stream in self._fenced:
            self._drop([unit])
            return
        if stream not in self._backlogs:
            self.open(stream)
        self._drop(self._backlogs[stream].add(unit, self._clock.now_ns()))
        self._turn(stream)

    async def drain(self, timeout_s: float) -> int:
        """Wait until everything is acknowledged, `timeout_s` at most; returns the number of units that are not."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        return self.waiting

    @property
    def waiting(self) -> int:
        """Units handed over and not acknowledged, of all streams."""
        return sum(len(backlog.units) for backlog in self._backlogs.values())

    def depth(self, stream: str) -> int:
        """Units of `stream` handed over and not acknowledged."""
        return len(self._backlogs[stream].units) if stream in self._backlogs else 0

    def outage(self) -> Outage | None:
        """What is wrong with the store, None while all is well."""
        if self._outage is not None:
            since_ns, reason = self._outage
            return Outage(since_ns, reason, self.waiting)
        since = self._in_flight_since_ns
        if since is not None and self._clock.now_ns() - since > _SLOW_NS:
            return Outage(since, f"the store {self._store.shown} does not answer", self.waiting)
        return None

    def publish_ns(self, quantile: float) -> int:
        """`quantile` (0 to 1) of the time from hand-over to acknowledgement of late, outages apart."""
        return self._times.quantile(quantile)

    # --- sending -------------------------------------------------------------------------------------------------

    def _turn(self, stream: str) -> None:
        self._turns[stream] = None
        self._idle.clear()
        self._wake.set()

    async def _send_forever(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            if not self._turns:
                self._wake.clear()
                self._idle.set()
                await self._wake.wait()
            try:
                await self._round_trip()
            except Exception as error:
                # Broad: a fault in a hook or in here must not end publishing for all streams.
                if not isinstance(error, StoreError):
                    log.exception("publishing failed; trying again")
                    error = StoreError(f"publishing failed: {type(error).__name__}")
                self._failed(error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            else:
                pause_s = _FIRST_PAUSE_S
                self._recovered()

    async def _round_trip(self) -> None:
        """Claim what is not claimed, send one batch, settle what is answered.

        Raises:
            StoreError: the store did not take all of it; whatever is not settled will be sent again.
        """
        streams = list(self._turns)[:_BATCH]
        self._in_flight_since_ns = self._clock.now_ns()
        try:
            await self._claim([stream for stream in streams if not self._backlogs[stream].owner])
            await self._send([stream for stream in streams if stream in self._backlogs])
        finally:
            self._in_flight_since_ns = None

    async def _send(self, streams: list[str]) -> None:
        batch = self._batch(streams)
        sent_ns = self._clock.now_ns()
        records = [record for _, _, record in batch]
        answers = await self._store.append(records, self._config.retention_ns) if records else []
        acked_ns = self._clock.now_ns()
        problem: StoreError | None = None
        stuck: set[str] = set()
        for (backlog, waiting, _), answer in zip(batch, answers, strict=True):
            if isinstance(answer, StoreError):
                problem = problem or answer
            elif answer.status in ("written", "duplicate"):
                self._store_clock.observe(sent_ns, acked_ns, answer.time_us)
                self._settle(backlog, waiting, answer, acked_ns)
                continue
            elif backlog.units[0] is waiting:
                stuck.add(backlog.stream)
        for stream in streams:
            self._pass_turn(stream)
        await self._restore(sorted(stuck))
        if problem is not None:
            await self._make_room(problem)
            raise problem

    def _batch(self, streams: list[str]) -> list[tuple[Backlog, Waiting, UnitRecord]]:
        """Up to a batch of units, `_TURN` of a stream at most unless there is room left over."""
        now_ns = self._clock.now_ns()
        turn = max(_TURN, _BATCH // max(len(streams), 1))
        batch: list[tuple[Backlog, Waiting, UnitRecord]] = []
        for stream in streams:
            backlog = self._backlogs[stream]
            for waiting in backlog.head(min(turn, _BATCH - len(batch))):
                records = backlog.records(waiting, now_ns)
                ordinal = waiting.ordinal or 0
                deadline_us = self._store_clock.store_us(waiting.unit.deadline_ns)
                record = UnitRecord(stream, backlog.owner, ordinal, ordinal - 1, records, deadline_us)
                batch.append((backlog, waiting, record))
        return batch

    def _settle(self, backlog: Backlog, waiting: Waiting, answer: Written, acked_ns: int) -> None:
        backlog.settle()
        acknowledged = Acknowledged(
            waiting.unit, waiting.handed_ns, waiting.sent_ns, acked_ns, answer.late, answer.status == "duplicate"
        )
        self._count(acknowledged)
        self._hooks.on_written(acknowledged)

    def _count(self, acknowledged: Acknowledged) -> None:
        statistics = self.statistics
        statistics.written += 1
        statistics.duplicates += acknowledged.duplicate
        statistics.store_late += acknowledged.store_late
        statistics.late += acknowledged.late and not acknowledged.store_late
        if acknowledged.handed_ns >= self._healthy_since_ns:
            self._times.add(acknowledged.acked_ns - acknowledged.handed_ns)

    def _pass_turn(self, stream: str) -> None:
        """To the end of the line, or out of it."""
        self._turns.pop(stream, None)
        if stream in self._backlogs and self._backlogs[stream].units:
            self._turns[stream] = None
        else:
            self._forget_if_done(stream)

    # --- owning --------------------------------------------------------------------------------------------------

    async def _claim(self, streams: list[str]) -> None:
        if not streams:
            return
        sent_ns = self._clock.now_ns()
        answers = await self._store.claim([ClaimRequest(stream) for stream in streams])
        acked_ns = self._clock.now_ns()
        for stream, answer in zip(streams, answers, strict=True):
            if isinstance(answer, StoreError):
                raise answer
            self._store_clock.observe(sent_ns, acked_ns, answer.time_us)
            if stream in self._backlogs:  # else it was closed meanwhile
                self._backlogs[stream].owner = answer.owner
                self._backlogs[stream].resume_from(answer.epoch, answer.seq)

    async def _restore(self, streams: list[str]) -> None:
        """Streams whose oldest unit was refused: the store was emptied or went back, or another writer owns them."""
        if not streams:
            return
        requests = [
            ClaimRequest(stream, self._backlogs[stream].owner, self._backlogs[stream].settled) for stream in streams
        ]
        for stream, answer in zip(streams, await self._store.claim(requests), strict=True):
            if isinstance(answer, StoreError):
                raise answer
            if not answer.granted:
                self._give_up(stream, answer)

    def _give_up(self, stream: str, claim: Claim) -> None:
        log.warning("stream %s: another writer (%s) has taken over; publishing from here ends", stream, claim.owner)
        backlog = self._backlogs.pop(stream)
        self._turns.pop(stream, None)
        self._fenced.add(stream)
        self.statistics.fenced += 1
        self._drop([waiting.unit for waiting in backlog.units])
        self._hooks.on_fenced(stream)

    def _forget_if_done(self, stream: str) -> None:
        backlog = self._backlogs.get(stream)
        if stream in self._closing and (backlog is None or not backlog.units):
            self._closing.discard(stream)
            self._turns.pop(stream, None)
            self._backlogs.pop(stream, None)

    def _drop(self, units: list[Unit]) -> None:
        for unit in units:
            self.statistics.dropped += 1
            self._hooks.on_dropped(unit)

    # --- trouble -------------------------------------------------------------------------------------------------

    def _failed(self, error: StoreError) -> None:
        if self._outage is None:
            self.statistics.outages += 1
            self._outage = (self._clock.now_ns(), str(error))
            self._healthy_since_ns = 1 << 63
            log.warning("%s; segments are kept and stored later", error)
        else:
            self._outage = (self._outage[0], str(error))

    def _recovered(self) -> None:
        if self._outage is not None:
            away_s = (self._clock.now_ns() - self._outage[0]) / NS_PER_S
            log.warning("the store %s is back after %.1f s; %d units wait", self._store.shown, away_s, self.waiting)
            self._outage = None
            self._healthy_since_ns = self._clock.now_ns()

    async def _make_room(self, problem: StoreError) -> None:
        if isinstance(problem, StoreFull):
            await self._store.shrink(self._backlogs, _SHRINK_TO)

    async def _trim_forever(self) -> None:
        """Keep the store within retention and memory; and find out that it is away while nothing is published."""
        known: set[str] = set()
        for turn in itertools.count():
            try:
                if turn % _STREAMS_EVERY == 0:
                    known = set(await self._store.stored_streams())
                await self._trim(known | set(self._backlogs))
                if not self._turns:
                    self._recovered()
            except StoreAway as error:
                if not self._turns:  # else the sender finds out by itself, and knows more
                    self._failed(error)
            except StoreError as error:
                log.warning("old messages are not trimmed: %s", error)
            await asyncio.sleep(_TRIM_EVERY_S)

    async def _trim(self, streams: set[str]) -> None:
        config = self._config
        self.statistics.used_bytes = await self._store.trim(streams, config.retention_ns, config.max_memory_bytes)
