"""Publishing: units of all streams into the store, in order a stream, once each, whatever the store does meanwhile.

One round trip is under way at a time and takes everything that has gathered, so batches grow with the load by
themselves and order needs no bookkeeping beyond a queue a stream. While the store is away each stream keeps its last
60 s; afterwards they are written in order, the ones that missed their deadline marked `delivered_late`. What a store
lost that it had acknowledged is written again as far as it is still here, and told where it is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Sequence

from streamer.clock import NS_PER_MS, Clock, HostClock
from streamer.errors import StoreError
from streamer.messages import FeedMessage
from streamer.publishing.acknowledged import (
    Acknowledged,
    Outage,
    PublishConfig,
    PublisherStatistics,
    PublishHooks,
    Silent,
)
from streamer.publishing.backlog import Backlog, Unit, Waiting
from streamer.publishing.health import Health
from streamer.publishing.publish_times import PublishTimes, Reserve, StoreClock
from streamer.publishing.trips import Trip
from streamer.publishing.upkeep import Upkeep
from streamer.storage.records import Claim, ClaimRequest, StoreAway, UnitRecord, Written
from streamer.storage.store import Store

# What a publisher is told and tells is imported from here.
__all__ = ["Acknowledged", "Outage", "PublishConfig", "PublishHooks", "Publisher", "PublisherStatistics"]

log = logging.getLogger(__name__)

# Units a round trip: encoding and packing this many holds the event loop for 2 to 3 ms.
_BATCH = 128
# Units of one stream in a row, so that a long backlog of one does not hold up the others.
_TURN = 8
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.25
_TRIM_EVERY_S = 2.0
# Looks at the store's clock at the start and after an outage, until one was quick.
_LOOKS, _QUICK_NS = 3, 5 * NS_PER_MS


class Publisher:
    """`async with Publisher(store) as publisher: publisher.publish(...)`.

    All methods belong to its event loop, and so does `store`: whoever asks the store on another loop connects anew. Any
    thread may at any time read `reserve_ns`, `typical_ns`, `waiting`, `statistics` and `outage()`.

    Attributes:
        hooks: who is told; may be replaced before `start`.
        reserve_ns: what must be kept free before a deadline for publishing: the slowest time from hand-over to
            acknowledgement in the last 10 s and half as much again, outages apart, within 5 to 300 ms. A slow round
            trip raises it at once.
        typical_ns: the median of the same times of late; 0 before the first.
    """

    def __init__(
        self,
        store: Store,
        config: PublishConfig | None = None,
        *,
        hooks: PublishHooks | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._config = config or PublishConfig()
        self.hooks: PublishHooks = hooks or Silent()
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
        self._knows_clock = False
        self._times = PublishTimes()
        self._reserve = Reserve()
        self._health = Health(self._clock, store.shown, lambda: store.requests)
        self._upkeep = Upkeep(store, self._config)
        self.reserve_ns = self._reserve.at(0)
        self.typical_ns = 0
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
        backlogs, self._backlogs = self._backlogs, {}
        for backlog in backlogs.values():
            self._abandon(backlog)

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
        gone = self._backlogs[stream].add(unit, self._clock.now_ns())
        self._health.more(1 - len(gone))
        self._drop(gone)
        self._turn(stream)

    async def drain(self, timeout_s: float) -> int:
        """Wait until everything is acknowledged, `timeout_s` at most; returns the number of units that are not."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        return self.waiting

    @property
    def waiting(self) -> int:
        """Units handed over and not acknowledged, of all streams."""
        # Counted, because other threads ask: they could not go through the backlogs while these change.
        return self._health.waiting

    def depth(self, stream: str) -> int:
        """Units of `stream` handed over and not acknowledged."""
        return len(self._backlogs[stream].units) if stream in self._backlogs else 0

    def outage(self) -> Outage | None:
        """What is wrong with the store, None while all is well. Any thread may ask."""
        return self._health.outage()

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
                if isinstance(error, StoreError):
                    self._failed(error, self._health.latest)
                else:
                    log.exception("publishing failed; trying again")
                    self._failed(StoreError(f"publishing failed: {type(error).__name__}"), own=True)
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
        streams = list(itertools.islice(self._turns, _BATCH))
        await self._claim([stream for stream in streams if not self._backlogs[stream].owner])
        if not self._knows_clock:
            await self._look_at_the_clock()
        # Meanwhile a stream may have been closed, and opened anew: it is claimed with the next round.
        await self._send([stream for stream in streams if (b := self._backlogs.get(stream)) and b.owner])

    async def _look_at_the_clock(self) -> None:
        """Know how the store's clock stands. An answer that took long says little, as it may have lain in the store."""
        for _ in range(_LOOKS):
            sent_ns = self._clock.now_ns()
            with self._health.asking():
                time_us = await self._store.time_us()
            acked_ns = self._clock.now_ns()
            self._store_clock.observe(sent_ns, acked_ns, time_us)
            if acked_ns - sent_ns < _QUICK_NS:
                break
        self._knows_clock = True

    async def _send(self, streams: list[str]) -> None:
        batch = self._batch(streams)
        sent_ns = self._clock.now_ns()
        answers: list[Written | StoreError] = []
        if batch:
            with self._health.asking():
                answers = await self._store.append([record for _, _, record in batch], self._config.retention_ns)
        acked_ns, trip = self._clock.now_ns(), self._health.latest
        problem: StoreError | None = None
        refused: set[str] = set()
        for (backlog, waiting, _), answer in zip(batch, answers, strict=True):
            if isinstance(answer, StoreError):
                problem = problem or answer
            elif answer.status in ("written", "duplicate"):
                self._store_clock.observe(sent_ns, acked_ns, answer.time_us)
                self._settle(backlog, waiting, answer, acked_ns)
            elif backlog.units[0] is waiting:
                refused.add(backlog.stream)
        self._refresh()
        for stream in streams:
            self._pass_turn(stream)
        await self._restore(sorted(refused), trip)
        if problem is not None:
            self._failed(problem, trip)
            await self._upkeep.make_room(problem, self._backlogs)
            raise problem

    def _batch(self, streams: list[str]) -> list[tuple[Backlog, Waiting, UnitRecord]]:
        """Up to a batch of units, `_TURN` of a stream at most unless there is room left over."""
        now_ns = self._clock.now_ns()
        turn = max(_TURN, _BATCH // max(len(streams), 1))
        batch: list[tuple[Backlog, Waiting, UnitRecord]] = []
        for stream in streams:
            backlog = self._backlogs[stream]
            for waiting in backlog.head(min(turn, _BATCH - len(batch))):
                deadline_us = self._store_clock.store_us(waiting.unit.deadline_ns)
                batch.append((backlog, waiting, backlog.unit_record(waiting, now_ns, deadline_us)))
        return batch

    def _settle(self, backlog: Backlog, waiting: Waiting, answer: Written, acked_ns: int) -> None:
        backlog.settle(answer.store, acked_ns)
        self._health.more(-1)
        if waiting.again:
            self.statistics.rewritten += 1
            return
        blame = self._health.blame(waiting.handed_ns, acked_ns, waiting.unit.deadline_ns)
        acknowledged = Acknowledged(
            unit=waiting.unit,
            handed_ns=waiting.handed_ns,
            sent_ns=waiting.sent_ns,
            acked_ns=acked_ns,
            delivered_late=answer.late,
            duplicate=answer.status == "duplicate",
            cursor=answer.cursor,
            store_ns=blame.store_ns,
            stalled_ns=blame.stalled_ns,
            stalled_early_ns=blame.stalled_early_ns,
            store_spans=blame.store,
        )
        self._count(acknowledged)
        self.hooks.on_written(acknowledged)

    def _count(self, acknowledged: Acknowledged) -> None:
        statistics = self.statistics
        statistics.written += 1
        statistics.duplicates += acknowledged.duplicate
        if acknowledged.late:
            statistics.store_late += acknowledged.store_late
            statistics.late += not acknowledged.store_late
        if acknowledged.handed_ns >= self._health.since_ns:
            took_ns = acknowledged.acked_ns - acknowledged.handed_ns
            self._times.add(took_ns)
            self._reserve.add(took_ns, acknowledged.acked_ns)

    def _refresh(self) -> None:
        """Bring up to date what other threads read of the times."""
        self.reserve_ns = self._reserve.at(self._clock.now_ns())
        self.typical_ns = self._times.quantile(0.5)

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
        with self._health.asking():
            answers = await self._store.claim([ClaimRequest(stream) for stream in streams])
        acked_ns = self._clock.now_ns()
        for stream, answer in zip(streams, answers, strict=True):
            if isinstance(answer, StoreError):
                self._failed(answer, self._health.latest)
                await self._upkeep.make_room(answer, self._backlogs)
                raise answer
            self._store_clock.observe(sent_ns, acked_ns, answer.time_us)
            if stream in self._backlogs:  # else it was closed meanwhile
                self._backlogs[stream].owner = answer.owner
                self._backlogs[stream].resume_from(answer.epoch, answer.seq)

    async def _restore(self, streams: list[str], seen: Trip) -> None:
        """Streams whose oldest unit was refused (as `seen`): the store was emptied or went back, or another writer
        owns them."""
        if not streams:
            return
        backlogs = [self._backlogs[stream] for stream in streams]
        requests = [
            ClaimRequest(backlog.stream, backlog.owner, backlog.rewritable, backlog.settled, backlog.store)
            for backlog in backlogs
        ]
        with self._health.asking():
            answers = await self._store.claim(requests)
        again, lost = 0, False
        for backlog, answer in zip(backlogs, answers, strict=True):
            if isinstance(answer, StoreError):
                raise answer
            if not answer.granted:
                self._give_up(backlog, answer)
            else:
                lost = True
                again += (more := backlog.fall_back(answer, self._clock.now_ns()))
                self._health.more(more)
        if lost:
            self._health.lost(seen)
        if again:
            log.warning("the store %s lost what it had acknowledged: %d units go again", self._store.shown, again)

    def _give_up(self, backlog: Backlog, claim: Claim) -> None:
        stream = backlog.stream
        log.warning("stream %s: another writer (%s) has taken over; publishing from here ends", stream, claim.owner)
        self._backlogs.pop(stream, None)
        self._turns.pop(stream, None)
        self._fenced.add(stream)
        self.statistics.fenced += 1
        self._abandon(backlog)
        self.hooks.on_fenced(stream)

    def _abandon(self, backlog: Backlog) -> None:
        self._health.more(-len(backlog.units))
        self._drop(backlog.unsettled())

    def _forget_if_done(self, stream: str) -> None:
        backlog = self._backlogs.get(stream)
        if stream in self._closing and (backlog is None or not backlog.units):
            self._closing.discard(stream)
            self._turns.pop(stream, None)
            self._backlogs.pop(stream, None)

    def _drop(self, units: list[Unit]) -> None:
        for unit in units:
            self.statistics.dropped += 1
            self.hooks.on_dropped(unit)

    # --- trouble -------------------------------------------------------------------------------------------------

    def _failed(self, error: StoreError, seen: Trip | None = None, *, own: bool = False) -> None:
        # What comes back may be another server with another clock.
        self._knows_clock = False
        self._health.failed(error, seen, own=own)
        self.statistics.outages = self._health.outages

    def _recovered(self) -> None:
        self._upkeep.made_room()
        self._health.succeeded()

    async def _trim_forever(self) -> None:
        """Keep the store within its bounds; and find out that it is away while nothing is published."""
        while True:
            try:
                self.statistics.used_bytes = await self._upkeep.trim(self._backlogs)
                self._refresh()
                if not self._turns:
                    self._recovered()
            except StoreAway as error:
                if not self._turns:  # else the sender finds out by itself, and knows more
                    self._failed(error)
            except StoreError as error:
                log.warning("old messages are not trimmed: %s", error)
            await asyncio.sleep(_TRIM_EVERY_S)
